package catalog

import (
	"strings"

	"github.com/belaydev/belay"
)

// aliases are names that people bring from other tools, with ours.
var aliases = map[string]string{
	"repourl": "repo", "repository": "repo", "url": "repo", "targetrevision": "ref", "revision": "ref", "branch": "ref", "tag": "ref",
	"syncpolicy": "sync", "automated": "automatic", "server": "cluster", "chart": "path", "dir": "path", "folder": "path",
	"valuefiles": "valuesFiles", "valuesobject": "values", "sourcerepos": "sources", "clusterresourcewhitelist": "clusterKinds",
	"namespaceresourceblacklist": "deniedKinds", "clusterresourceblacklist": "deniedKinds", "namespaceresourcewhitelist": "kinds",
	"secretref": "secret", "sshprivatekey": "sshKey", "token": "password", "repolist": "sources",
}

// nearest is the candidate that got was most likely meant to be, or "".
func nearest(got string, candidates []string) string {
	for _, c := range candidates {
		if a, ok := aliases[strings.ToLower(got)]; ok && a == c {
			return c
		}
	}
	return belay.Nearest(got, candidates)
}
