package server

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"

	"github.com/belaydev/belay"
)

// Sizes of [Hook].
const (
	maxHookBody = 5 << 20 // a push of very many commits
	maxHooks    = 4       // at once
)

// HookConfig is what [Hook] is made of. All fields but Leader and Denied are required.
type HookConfig struct {
	// Poke looks at a repository now, or at all for "". It returns how many that are.
	Poke func(repo string) (int, error)
	// Secret is what the forge signs with; it is read each time, so that it can change.
	Secret func() ([]byte, error)
	// Leader is where the process that does the work answers hooks: itself is
	// true, or an address, or neither while nobody leads. Nil means itself.
	Leader func() (itself bool, addr string)
	// Denied is told of hooks that are not signed with the secret. It may be nil, and
	// must not block.
	Denied func(Denial)
	Log    *slog.Logger
}

// hookForwarded marks a hook that another process passed on.
const hookForwarded = "Belay-Forwarded"

// Hook answers POST /hooks/push of a forge: GitHub's and Gitea's, signed with
// HMAC-SHA256, and GitLab's, with a token. Anybody may reach it, so nothing is done for a
// request that does not know the secret.
func Hook(c HookConfig) http.Handler {
	slots := make(chan struct{}, maxHooks)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hooks/push", func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-r.Context().Done():
			return
		}
		n, err := c.take(r)
		if err != nil {
			p := newProblem(err)
			c.Log.Warn("hook refused", "from", r.RemoteAddr, "error", p.Message)
			refuse(w, p.Status, p.Code, p.Hint, "%s", p.Message)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(poked{n}) // the client may be gone
	})
	return mux
}

// take checks a hook and looks at the repositories that it names.
func (c *HookConfig) take(r *http.Request) (int, error) {
	secret, err := c.Secret()
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxHookBody))
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		return 0, &belay.Error{Code: belay.CodeInvalid, Message: "the hook's body is too large", Hint: "the next poll finds the commits"}
	}
	if err != nil {
		return 0, &belay.Error{Code: belay.CodeInvalid, Message: "the hook's body did not arrive", Err: err}
	}
	if !signed(r.Header, body, secret) {
		denied(c.Denied, r, "the hook is not signed with the secret")
		return 0, &belay.Error{Code: belay.CodeForbidden, Message: "the hook is not signed with the secret",
			Hint: "give the forge's webhook the secret that the server has (X-Hub-Signature-256, X-Gitea-Signature or X-Gitlab-Token)"}
	}
	repos, err := pushed(r.Header.Get("Content-Type"), body)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, repo := range repos {
		n, err := c.Poke(repo)
		if err != nil {
			return 0, err
		}
		found = max(found, n)
	}
	if c.Leader == nil {
		return found, nil
	}
	itself, addr := c.Leader()
	if itself {
		return found, nil
	}
	if addr == "" || r.Header.Get(hookForwarded) != "" {
		return 0, &belay.Error{Code: belay.CodeUnavailable, Message: "no process leads that could be told", Hint: "the next poll finds the commits"}
	}
	return found, forward(r, addr, body)
}

// signed reports whether whoever sent a body knows the secret.
func signed(h http.Header, body, secret []byte) bool {
	if len(secret) == 0 {
		return false
	}
	if token := h.Get("X-Gitlab-Token"); token != "" {
		return subtle.ConstantTimeCompare([]byte(token), secret) == 1
	}
	sum := h.Get("X-Gitea-Signature")
	if s, ok := strings.CutPrefix(h.Get("X-Hub-Signature-256"), "sha256="); ok {
		sum = s
	}
	got, err := hex.DecodeString(sum)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	return hmac.Equal(got, mac.Sum(nil))
}

// pushed are the spellings of the repository that was pushed to; "" is all.
func pushed(contentType string, body []byte) ([]string, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return []string{""}, nil
	}
	if t, _, _ := mime.ParseMediaType(contentType); t == "application/x-www-form-urlencoded" {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "the hook is sent as a form", Hint: "choose the content type application/json in the forge's webhook"}
	}
	var p struct {
		Repo       string                     `json:"repo"`
		Repository map[string]json.RawMessage `json:"repository"`
		Project    map[string]json.RawMessage `json:"project"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "the hook's body is not a JSON object of the expected form", Err: err}
	}
	if p.Repo != "" {
		return []string{p.Repo}, nil
	}
	if p.Repository == nil && p.Project == nil {
		return []string{""}, nil
	}
	var out []string
	for _, m := range []map[string]json.RawMessage{p.Repository, p.Project} {
		for _, field := range []string{"clone_url", "ssh_url", "git_url", "html_url", "git_http_url", "git_ssh_url", "http_url", "web_url"} {
			var url string
			if json.Unmarshal(m[field], &url) == nil && url != "" {
				out = append(out, url)
			}
		}
	}
	return out, nil
}

// forward passes a hook on as it came, so that its signature holds.
func forward(r *http.Request, addr string, body []byte) error {
	ctx, cancel := context.WithTimeout(r.Context(), forwardTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/hooks/push", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("pass the hook on: %w", err)
	}
	for _, name := range []string{"Content-Type", "X-Hub-Signature-256", "X-Gitea-Signature", "X-Gitlab-Token"} {
		if v := r.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	req.Header.Set(hookForwarded, "1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return &belay.Error{Code: belay.CodeUnavailable, Message: "the process that leads cannot be told", Hint: "the next poll finds the commits", Err: err}
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		return &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("the process that leads did not take the hook: %s", res.Status), Hint: "the next poll finds the commits"}
	}
	return nil
}
