package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/health"
	"github.com/belaydev/belay/internal/kube"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/source"
	"github.com/belaydev/belay/internal/term"
)

const healthLong = `Says how healthy objects are, and which rule says so, without a server: for trying
a HealthRule before it is committed. FILE is what kubectl shows of them, as YAML
or JSON; "-" or nothing is standard input. Rules are those built in, and with
--rules the HealthRules of a directory.

The exit code is 0 however the objects are, and 3 with --exit-code when some are
not Healthy. It is 1 when a rule or FILE is wrong. With "-o json" the output is
{"objects": [{"object": "...", "health": "...", "message": "...", "decidedBy": "..."}]}.`

const healthExample = `  kubectl get databases.example.com -A -o yaml | belay health --rules belay/
  belay health --rules belay/health/ database.yaml
  kubectl get certificate web -o json | belay health --exit-code`

// judged is the documented form of what was found of one object.
type judged struct {
	Object    string       `json:"object"`
	Health    belay.Health `json:"health"`
	Message   string       `json:"message,omitempty"`
	DecidedBy string       `json:"decidedBy"`
}

func newHealth(env *env) *cobra.Command {
	var rules string
	var exitCode bool
	cmd := &cobra.Command{Use: "health [FILE]", Short: "Try health rules on objects", Long: healthLong, Example: healthExample, Args: cobra.MaximumNArgs(1)}
	out := addOutput(cmd)
	cmd.Flags().StringVar(&rules, "rules", "", "`directory` with HealthRules")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 when an object is not Healthy")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		set, err := env.healthSet(cmd.Context(), rules)
		if err != nil {
			return err
		}
		name, data, err := env.readInput(args)
		if err != nil {
			return err
		}
		all, err := judgeAll(set, name, data)
		if err != nil {
			return err
		}
		if err := env.writeJudged(*out, all); err != nil {
			return err
		}
		for i := range all {
			if exitCode && all[i].Health != belay.Healthy {
				return errDiffers
			}
		}
		return nil
	}
	return cmd
}

// healthSet reads the rules of a directory beside those built in.
func (e *env) healthSet(ctx context.Context, dir string) (*health.Set, error) {
	if dir == "" {
		return health.NewSet(nil)
	}
	files, err := source.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no directory %s", dir), Hint: "name the one with the HealthRules with --rules"}
	} else if err != nil {
		return nil, err
	}
	defer func() { _ = files.Close() }() // only read from
	cat, err := catalog.Load(ctx, files, catalog.Options{}, nil)
	if err != nil {
		return nil, err
	}
	var problems []error
	for i := range cat.Problems {
		problems = append(problems, &cat.Problems[i])
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return health.NewSet(cat.HealthRules)
}

func (e *env) readInput(args []string) (name string, data []byte, err error) {
	if len(args) == 0 || args[0] == "-" {
		data, err = io.ReadAll(e.stdin)
		return "standard input", data, err
	}
	data, err = os.ReadFile(args[0])
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no file %s", args[0]), Hint: "name a file that kubectl get -o yaml has written"}
	}
	return args[0], data, err
}

// judgeAll tells the health of every object in a file.
func judgeAll(set *health.Set, file string, data []byte) ([]judged, error) {
	invalid := func(line int, message string) error {
		return &belay.Error{Code: belay.CodeInvalid, Origin: belay.Origin{File: file, Line: line}, Message: message, Hint: "give what kubectl get -o yaml shows"}
	}
	docs := manifest.Split(data)
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		var err error
		if docs, err = manifest.SplitJSON(data); err != nil {
			return nil, invalid(0, err.Error())
		}
	}
	out := []judged{}
	for _, d := range docs {
		items, err := d.LenientManifests()
		if bad, ok := errors.AsType[*manifest.Error](err); ok {
			return nil, invalid(bad.Line, bad.Problem)
		} else if err != nil {
			return nil, err
		}
		for _, item := range items {
			if why := manifest.NotObject(item.Manifest); why != "" {
				return nil, invalid(item.Line, why)
			}
			j, err := judge(set, item.Manifest)
			if err != nil {
				return nil, invalid(item.Line, err.Error())
			}
			out = append(out, j)
		}
	}
	if len(out) == 0 {
		return nil, invalid(0, "there is no object in it")
	}
	return out, nil
}

func judge(set *health.Set, raw []byte) (judged, error) {
	o, err := belay.NewObject(raw, belay.Origin{})
	if err != nil {
		return judged{}, err
	}
	j := judged{Object: o.ID.String(), DecidedBy: "what holds for every kind"}
	var check belay.HealthCheck
	if c := set.For(o.ID.GroupKind()); c != nil {
		check.Digest, check.Judge = c.Digest(), func(object map[string]any) (belay.Health, string) {
			v := c.Judge(object)
			j.DecidedBy = v.DecidedBy()
			return v.Health, v.Message
		}
	}
	j.Health, j.Message, err = kube.HealthOf(raw, check)
	return j, err
}

func (e *env) writeJudged(o output, all []judged) error {
	if o != outputTable {
		return e.write(o, struct {
			Objects []judged `json:"objects"`
		}{all})
	}
	t := term.NewTable("OBJECT", "HEALTH", "DECIDED BY", "MESSAGE")
	for i := range all {
		t.Row(term.Text(all[i].Object), term.HealthCell(all[i].Health), term.Text(all[i].DecidedBy), term.Text(all[i].Message))
	}
	return e.printer().Print(t)
}
