package supplier_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/supplier"
	"github.com/missionopsai/foundry/internal/continuity/supplier/suppliertest"
	"github.com/missionopsai/foundry/internal/problem"
)

func secret(t *testing.T, text string) config.Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Secret{File: path}
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	return s
}

func cloud(t *testing.T, sim *suppliertest.Cloud, token string, clock func() time.Time) *supplier.Cloud {
	s := serve(t, sim)
	return &supplier.Cloud{Endpoint: s.URL, Client: s.Client(), Token: secret(t, token), Poll: time.Millisecond, Clock: clock}
}

func robot(t *testing.T, sim *suppliertest.Robot, password string, clock func() time.Time) *supplier.Robot {
	s := serve(t, sim)
	return &supplier.Robot{Endpoint: s.URL, Client: s.Client(), User: "#ws+abc", Password: secret(t, password), Clock: clock}
}

func TestTheCloudSwitchesServersOff(t *testing.T) {
	suppliertest.Suite(t, func(t *testing.T, clock func() time.Time) suppliertest.World {
		sim := suppliertest.NewCloud("right-secret")
		return suppliertest.World{Machines: cloud(t, sim, "right-secret", clock), Wrong: cloud(t, sim, "wrong-secret", clock), Sim: &sim.Simulator, On: "running", Off: "off"}
	})
}

func TestRobotSwitchesServersOff(t *testing.T) {
	suppliertest.Suite(t, func(t *testing.T, clock func() time.Time) suppliertest.World {
		sim := suppliertest.NewRobot("#ws+abc", "right-secret")
		return suppliertest.World{Machines: robot(t, sim, "right-secret", clock), Wrong: robot(t, sim, "wrong-secret", clock), Sim: &sim.Simulator, On: "running", Off: "shut off"}
	})
}

func at() time.Time { return time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC) }

func TestAServerOfWhosePowerNothingIsKnownIsNotTouchedAndGivesNoReceipt(t *testing.T) {
	sim := suppliertest.NewRobot("#ws+abc", "s")
	r, err := supplier.SwitchOff(t.Context(), robot(t, sim, "s", at), "322", supplier.Options{})
	if !errors.Is(err, supplier.ErrBlind) || sim.Count("POST") != 0 || r.Second.Power == supplier.Off {
		t.Fatalf("%+v %v %v", r, err, sim.Calls())
	}
	c := suppliertest.NewCloud("s")
	c.Set(321, "unknown")
	if _, err := supplier.SwitchOff(t.Context(), cloud(t, c, "s", at), "321", supplier.Options{}); !errors.Is(err, supplier.ErrBlind) || c.Count("POST") != 0 {
		t.Fatal(err, c.Calls())
	}
}

func TestAWordThatIsNotDocumentedIsNoState(t *testing.T) {
	for _, word := range []string{"", "OFF", "Off", "off ", "shut-off", "powered off", "0", "unknown"} {
		sim := suppliertest.NewRobot("#ws+abc", "s")
		c := suppliertest.NewCloud("s")
		sim.Set(321, word+" ")
		c.Set(321, word)
		if r, err := robot(t, sim, "s", at).Power(t.Context(), "321"); err != nil || r.Power != supplier.Indeterminate {
			t.Errorf("Robot says %q: %+v %v", word, r, err)
		}
		if r, err := cloud(t, c, "s", at).Power(t.Context(), "321"); err != nil || r.Power == supplier.Off {
			t.Errorf("the cloud says %q: %+v %v", word, r, err)
		}
	}
	c := suppliertest.NewCloud("s")
	c.Set(321, "stopping")
	if r, _ := cloud(t, c, "s", at).Power(t.Context(), "321"); r.Power != supplier.Changing {
		t.Errorf("a server that is stopping still writes: %+v", r)
	}
}

func TestRobotsButtonIsPressedOnlyWhereItDoesWhatIsMeant(t *testing.T) {
	sim := suppliertest.NewRobot("#ws+abc", "s")
	r := robot(t, sim, "s", at)
	for _, c := range []struct {
		server, stands string
		act            supplier.Act
		presses        int
		want           error
	}{
		{"321", "running", supplier.PowerOff, 1, nil},
		{"321", "shut off", supplier.PowerOff, 0, nil},
		{"321", "shut off", supplier.PowerOn, 1, nil},
		{"321", "running", supplier.PowerOn, 0, nil},
		{"322", "not supported", supplier.PowerOff, 0, supplier.ErrBlind},
		{"322", "not supported", supplier.PowerOn, 0, supplier.ErrBlind},
		{"322", "not supported", supplier.Reset, 1, nil},
		{"323", "running", supplier.PowerOff, 0, supplier.ErrRefused}, // it has no such button
	} {
		sim.Set(map[string]int64{"321": 321, "322": 322, "323": 323}[c.server], c.stands)
		before := sim.Count("POST")
		if err := r.Act(t.Context(), c.server, c.act); !errors.Is(err, c.want) || sim.Count("POST")-before != c.presses {
			t.Errorf("%s that is %s, %s: %v, pressed %d times", c.server, c.stands, c.act, err, sim.Count("POST")-before)
		}
	}
}

func TestRefusalsOfRobotSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		rule   string
		want   error
	}{
		{409, "RESET_MANUAL_ACTIVE", "supplier-manual-reset", supplier.ErrRefused},
		{403, "RATE_LIMIT_EXCEEDED", "supplier-rate-limit", supplier.ErrBusy},
		{403, "FORBIDDEN", "supplier-forbidden", supplier.ErrRefused},
		{404, "RESET_NOT_AVAILABLE", "supplier-absent", supplier.ErrAbsent},
		{500, "RESET_FAILED", "supplier-outcome-unknown", supplier.ErrUnknown},
		{503, "MAINTENANCE", "supplier-unavailable", supplier.ErrUnknown},
		{400, "INVALID_INPUT", "supplier-refused", supplier.ErrRefused},
	} {
		sim := suppliertest.NewRobot("#ws+abc", "s")
		sim.Break(suppliertest.Fault{Method: "POST", Status: c.status, Code: c.code})
		err := robot(t, sim, "s", at).Act(t.Context(), "321", supplier.PowerOff)
		p := problem.From(err)
		if !errors.Is(err, c.want) || p.Code != c.rule || p.Mend == "" {
			t.Errorf("%d %s: %+v", c.status, c.code, p)
		}
		if c.code == "RATE_LIMIT_EXCEEDED" && p.RetryAfter != 18*time.Second {
			t.Errorf("asked again after %s", p.RetryAfter)
		}
	}
}

func TestTheRescueSystemIsOpenedByAKeyAndOnlyOnce(t *testing.T) {
	sim := suppliertest.NewRobot("#ws+abc", "s")
	r := robot(t, sim, "s", at)
	if err := r.Rescue(t.Context(), "321", nil); problem.From(err).Code != "supplier-rescue-key" {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Rescue(t.Context(), "321", []string{"aa:bb"}); err != nil {
			t.Fatal(err)
		}
	}
	if !sim.Rescue[321] || sim.Count("POST") != 1 {
		t.Fatal(sim.Calls())
	}
}

func wanted() supplier.Wanted {
	return supplier.Wanted{Name: "foundry-node-9", Order: "rec-20261123-abc.provide", Type: "cpx41", Image: "debian-12", Location: "hel1", UserData: "#!/bin/sh", Most: "29.99"}
}

func TestAServerIsOrderedOnceHoweverOftenItIsAskedFor(t *testing.T) {
	for name, fault := range map[string]*suppliertest.Fault{
		"without a fault":          nil,
		"the answer is lost":       {Method: "POST", Path: "/servers", Lose: true},
		"the answer is 504":        {Method: "POST", Path: "/servers", Status: 504, Code: "timeout"},
		"the order was made twice": {Method: "GET", Path: "/servers", Status: 503, After: 3},
	} {
		t.Run(name, func(t *testing.T) {
			sim := suppliertest.NewCloud("s")
			if fault != nil {
				sim.Break(*fault)
			}
			c := cloud(t, sim, "s", at)
			var last supplier.Server
			done := 0
			for range 4 { // as an executor that tries again does
				s, _, err := c.Provide(t.Context(), wanted())
				if err == nil {
					last, done = s, done+1
				}
			}
			if done < 3 || last.Name != "foundry-node-9" || len(last.Addresses) != 2 || len(sim.Made) != 1 {
				t.Fatalf("%d times, %+v, %d orders", done, last, len(sim.Made))
			}
		})
	}
}

func TestAServerOfTheSameNameThatSomebodyElseMadeIsLeftAlone(t *testing.T) {
	sim := suppliertest.NewCloud("s")
	c := cloud(t, sim, "s", at)
	other := wanted()
	other.Order = "rec-other"
	if _, _, err := c.Provide(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Provide(t.Context(), wanted()); problem.From(err).Code != "supplier-name-taken" || len(sim.Made) != 1 {
		t.Fatal(err)
	}
}

func TestNothingIsOrderedThatCostsMoreThanIsAllowed(t *testing.T) {
	for most, ok := range map[string]bool{"29.99": true, "29.988": true, "29.98": false, "": false, "much": false, "-1": false, "0": false, "1e9": true} {
		sim := suppliertest.NewCloud("s")
		w := wanted()
		w.Most = most
		if _, made, err := cloud(t, sim, "s", at).Provide(t.Context(), w); (err == nil) != ok || made != ok || !ok && !errors.Is(err, supplier.ErrCost) || len(sim.Made) != map[bool]int{true: 1}[ok] {
			t.Errorf("%q: %v, %v, %d orders", most, made, err, len(sim.Made))
		}
	}
	w := wanted()
	w.Type = "cpx999"
	if _, err := cloud(t, suppliertest.NewCloud("s"), "s", at).Price(t.Context(), w); problem.From(err).Code != "supplier-type" {
		t.Error(err)
	}
	p, err := cloud(t, suppliertest.NewCloud("s"), "s", at).Price(t.Context(), wanted())
	if err != nil || p.String() != "EUR 29.988 a month at most, 0.0476 an hour" {
		t.Errorf("%q %v", p, err)
	}
}

func setup() supplier.Setup {
	return supplier.Setup{Binary: "https://get.example.eu/foundry", SHA256: strings.Repeat("ab", 32), Token: "fdn_abc-DEF_1", Roles: "gateway,fleet", Config: "node:\n  name: $(reboot) `x` 'y'\nFILE\n"}
}

func TestTheScriptOfANewServerReadsNothingOfItsSettingsAsACommand(t *testing.T) {
	text, err := setup().UserData()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "reboot") {
		t.Error("the configuration stands in the script as it was written")
	}
	start := strings.Index(text, "foundry.yaml <<'FILE'\n") + len("foundry.yaml <<'FILE'\n")
	body, _, _ := strings.Cut(text[start:], "FILE\n")
	if got, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", "")); err != nil || string(got) != setup().Config {
		t.Errorf("%q %v", got, err)
	}
	check := exec.Command("/bin/sh", "-n")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("the shell does not read it: %s", out)
	}
	for field, change := range map[string]func(*supplier.Setup){
		"provision.binary": func(s *supplier.Setup) { s.Binary = "https://x.eu/'; reboot; '" },
		"provision.sha256": func(s *supplier.Setup) { s.SHA256 = "abc" },
		"token":            func(s *supplier.Setup) { s.Token = "a\nFILE\nreboot\n" },
		"provision.roles":  func(s *supplier.Setup) { s.Roles = "gateway;reboot" },
	} {
		s := setup()
		change(&s)
		if _, err := s.UserData(); err == nil || problem.From(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	plain := setup()
	plain.Binary = "http://get.example.eu/foundry"
	if _, err := plain.UserData(); err == nil {
		t.Error("a program over plain HTTP was taken")
	}
	large := setup()
	large.Config = strings.Repeat("x", 40<<10)
	if _, err := large.UserData(); problem.From(err).Kind != problem.TooLarge {
		t.Error(err)
	}
}

func TestMistakesInTheConfigurationNameTheirField(t *testing.T) {
	ok := supplier.Config{Name: "hetzner", Kind: "hetzner-cloud", Servers: map[string]string{"node-1": "321"},
		Provision: &supplier.Provision{Type: "cpx41", Location: "hel1", MaxMonthly: "60.00", Binary: setup().Binary, SHA256: setup().SHA256}}
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	for rule, change := range map[string]func(*supplier.Config){
		"supplier-name":           func(c *supplier.Config) { c.Name = "" },
		"supplier-kind":           func(c *supplier.Config) { c.Kind = "hetzner-clod" },
		"supplier-kind-missing":   func(c *supplier.Config) { c.Kind = "" },
		"supplier-server":         func(c *supplier.Config) { c.Servers = map[string]string{"node-1": "x/../y"} },
		"supplier-server-twice":   func(c *supplier.Config) { c.Servers = map[string]string{"node-1": "321", "node-2": "321"} },
		"supplier-provision":      func(c *supplier.Config) { c.Kind = "hetzner-robot" },
		"supplier-cost-unbounded": func(c *supplier.Config) { p := *c.Provision; p.MaxMonthly = ""; c.Provision = &p },
		"supplier-wanted":         func(c *supplier.Config) { p := *c.Provision; p.Type = "a b"; c.Provision = &p },
		"supplier-setup":          func(c *supplier.Config) { p := *c.Provision; p.SHA256 = "x"; c.Provision = &p },
	} {
		c := ok
		change(&c)
		if err := c.Validate(); problem.From(err).Code != rule {
			t.Errorf("%s: %v", rule, err)
		}
	}
	if !(supplier.Config{Name: "mistral"}).Owns("mistral") || (supplier.Config{Name: "h", Providers: []string{"ollama"}}).Owns("h") {
		t.Error("whose providers are whose")
	}
	if m := (supplier.Config{Name: "x", Kind: "hetzner-cloud", Endpoint: "http://x"}).Machines(); m.Check() == nil {
		t.Error("plain HTTP was taken")
	}
}

func FuzzAnswersOfSuppliers(f *testing.F) {
	f.Add(200, `{"reset":{"server_number":321,"type":["sw"],"operating_status":"shut off"}}`)
	f.Add(200, `{"server":{"id":321,"status":"off"}}`)
	f.Add(403, `{"error":{"status":403,"code":"RATE_LIMIT_EXCEEDED","max_request":200,"interval":3600}}`)
	f.Add(200, `{"reset":{"server_number":321,"type":"hw","operating_status":null}}`)
	f.Add(500, `<html>`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			return
		}
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		for _, m := range []supplier.Machines{
			&supplier.Robot{Endpoint: s.URL, Client: s.Client(), User: "u", Password: secret(t, "p")},
			&supplier.Cloud{Endpoint: s.URL, Client: s.Client(), Token: secret(t, "p")},
		} {
			r, err := m.Power(t.Context(), "321")
			if r.Power == supplier.Off && (err != nil || status >= 300 || !strings.Contains(body, "321") || !strings.Contains(body, "off")) {
				t.Fatalf("%d %s is off: %+v %v", status, body, r, err)
			}
		}
	})
}
