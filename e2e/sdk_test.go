package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// installed makes sure that the SDKs are there, once for each lock file.
var installed = sync.OnceValues(func() (string, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "The SDK conformance tests need Node.js with npm: run `make setup-test`.", err
		}
	}
	lock, err := os.ReadFile("sdk/package-lock.json")
	if err != nil {
		return "sdk/package-lock.json is missing.", err
	}
	stamp := filepath.Join("sdk", "node_modules", ".installed-lock.json")
	if have, err := os.ReadFile(stamp); err == nil && bytes.Equal(have, lock) {
		return "", nil
	}
	npm := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = "sdk"
	if out, err := npm.CombinedOutput(); err != nil {
		return "npm ci failed: " + string(out), err
	}
	return "", os.WriteFile(stamp, lock, 0o644)
})

// sdks is the node that the SDKs talk to: every kind of provider.
var sdks = &shared{make: func() (*world, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	var cfg daemon.Config
	for _, f := range formats {
		name := string(f)
		v, err := w.vendor(name, simulator.Options{Format: f, APIKey: "sk-" + name + "-for-conformance-0123456789", Commands: true})
		if err != nil {
			return nil, err
		}
		p := patient(european(name, kindOf(f), v.url), "simulator-chat")
		p.Models = append(p.Models, gateway.ProviderModelConfig{Name: "simulator-embed"})
		p.APIKey = w.secret(v.secret)
		cfg.Providers = append(cfg.Providers, p)
		for _, m := range []string{"chat", "embed"} {
			cfg.Models = append(cfg.Models, gateway.ModelConfig{Name: name + "-" + m, Routes: []gateway.RouteConfig{{Provider: name, Model: "simulator-" + m}}})
		}
	}
	return w, w.launch(cfg, nil)
}}

func TestTheOfficialSDKsWorkWithEveryKindOfProvider(t *testing.T) {
	t.Parallel()
	if why, err := installed(); err != nil {
		t.Fatalf("%s (%v)", why, err)
	}
	w := sdks.get(t)
	policy := anywhere()
	policy.Ceilings = sovereignty.Ceilings{Own: sovereignty.Restricted, Near: sovereignty.Confidential, Elsewhere: sovereignty.Public}
	org := w.org(t, policy)
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			w.conform(t, org, string(f))
		})
	}
}

// conform runs every check of the script as a subtest.
func (w *world) conform(t *testing.T, org, kind string) {
	token, limited := w.key(t, org, nil).Token, w.key(t, org, map[string]any{"requests_per_minute": 1}).Token
	w.post(t, limited, "/v1/chat/completions", `{"model":"openai-chat","messages":[{"role":"user","content":"spends the minute"}]}`)
	node := exec.CommandContext(t.Context(), "node", "--tls-min-v1.3", "conformance.mjs")
	node.Dir = "sdk"
	node.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+daemon.AuthorityFile(w.d.DataDir()), "NO_PROXY=*", "BASE="+w.base,
		"KEY="+token, "LIMITED="+limited, "KIND="+kind, "MODEL="+kind+"-chat", "EMBED="+kind+"-embed")
	var out, errs bytes.Buffer
	node.Stdout, node.Stderr = &out, &errs
	if err := node.Run(); err != nil {
		t.Fatalf("node: %v\n%s", err, errs.String())
	}
	script, err := os.ReadFile("sdk/conformance.mjs")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Name, Error, Left string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("the script said %q", lines.Text())
		}
		if line.Left != "" {
			w.left(t, kind, line.Left)
			continue
		}
		checked++
		t.Run(line.Name, func(t *testing.T) {
			if line.Error != "" {
				t.Error(line.Error)
			}
		})
	}
	if want := strings.Count(string(script), "\n  async '"); checked != want {
		t.Errorf("%d checks ran, the script has %d", checked, want)
	}
}

// left checks that a client's leaving reached the vendor, and the ledger.
func (w *world) left(t *testing.T, kind, mark string) {
	t.Helper()
	for _, r := range w.vendors[kind].Requests() {
		if !bytes.Contains(r.Body, []byte(mark)) {
			continue
		}
		select {
		case <-r.Gone:
		case <-time.After(patience):
			t.Errorf("%s: the upstream call went on after the client had left", mark)
		}
		return
	}
	t.Errorf("%s: never arrived at the vendor", mark)
}
