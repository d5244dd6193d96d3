package git

import (
	"context"
	"strings"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// User is the user of this machine as git is configured to call them: "Name
// <email>", or what there is of it. It is empty where git knows nobody.
func User(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// Unlike every other command this one is to see the configuration of the user.
	c := xec.Command{Path: "git", Args: []string{"config", "--get-regexp", `^user\.(name|email)$`}, Name: "git config",
		Inherit: append([]string{"GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM"}, inherited...)}
	out, err := c.Output(ctx, 64<<10)
	if err != nil {
		return ""
	}
	return identity(string(out))
}

// identity reads the lines that git prints of its configuration. The last of several
// counts.
func identity(config string) string {
	name, email := "", ""
	for line := range strings.Lines(config) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "user.name":
			name = value
		case "user.email":
			email = value
		}
	}
	if name != "" && email != "" {
		return name + " <" + email + ">"
	}
	return name + email
}
