package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
)

func TestPoliciesOfTheConfigurationAreCheckedBeforeAnythingStarts(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.cedar", `@id("no-keys") @reason("Here nobody makes keys.") forbid (principal is Person, action == Action::"key.create", resource);`)
	for name, c := range map[string]struct {
		paths []string
		code  string
	}{
		"none":             {nil, ""},
		"a good one":       {[]string{good}, ""},
		"the same twice":   {[]string{good, good}, "policy-id-taken"},
		"not there":        {[]string{filepath.Join(dir, "missing.cedar")}, "policy-unreadable"},
		"a directory":      {[]string{dir}, "policy-unreadable"},
		"too large":        {[]string{file("large.cedar", string(make([]byte, maxPolicyFile+1)))}, "policy-size"},
		"not Cedar":        {[]string{file("bad.cedar", "let everybody in")}, "policy-syntax"},
		"locks all out":    {[]string{file("locked.cedar", `@id("nobody") @reason("x") forbid (principal, action, resource);`)}, "policy-lock-out"},
		"outside the rule": {[]string{file("wrong.cedar", `@id("x") @reason("x") permit (principal is ApiKey, action == Action::"person.invite", resource);`)}, "policy-schema"},
	} {
		err := Config{Policies: c.paths}.Check()
		if c.code == "" && err != nil || c.code != "" && problem.From(err).Code != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}
