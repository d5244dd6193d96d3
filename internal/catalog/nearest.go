package catalog

import "strings"

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
	if len(got) > 64 {
		return ""
	}
	low := strings.ToLower(got)
	for _, c := range candidates {
		if a, ok := aliases[low]; ok && a == c {
			return c
		}
	}
	best, bestDistance := "", 1+len(got)/3
	for _, c := range candidates {
		lc := strings.ToLower(c)
		d := distance(low, lc)
		if len(low) >= 3 && (strings.HasPrefix(lc, low) || len(lc) >= 3 && strings.HasPrefix(low, lc)) {
			d = min(d, 1)
		}
		if d < bestDistance || d == bestDistance && best == "" {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours between two words.
func distance(a, b string) int {
	ra, rb := []rune(a), []rune(b)
	before, last, cur := make([]int, len(rb)+1), make([]int, len(rb)+1), make([]int, len(rb)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(ra); i++ {
		cur[0] = i
		for j := 1; j <= len(rb); j++ {
			cost := 1
			if ra[i-1] == rb[j-1] {
				cost = 0
			}
			cur[j] = min(last[j]+1, cur[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && ra[i-1] == rb[j-2] && ra[i-2] == rb[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, last, cur = last, cur, before
	}
	return last[len(rb)]
}
