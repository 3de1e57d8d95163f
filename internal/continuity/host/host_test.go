package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// simulated puts a simulator of a program into a folder of its own.
func simulated(t *testing.T, name string) (program, dir string) {
	t.Helper()
	dir = t.TempDir()
	body, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, name)
	if err := os.WriteFile(program, body, 0o755); err != nil {
		t.Fatal(err)
	}
	return program, dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, _ := os.ReadFile(path)
	return string(b)
}

func at(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func made(t *testing.T, c Config) *Host {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return New(Options{Config: c, Dir: filepath.Join(t.TempDir(), "host"), Wait: at, Doors: doors})
}

func doors(context.Context) ([]Door, error) {
	return []Door{{Node: "node-1", Ports: []int{8490, 8492}}, {Node: "node-2", Addr: netip.MustParseAddr("10.0.0.2"), Ports: []int{8490, 8491}}, {Node: "node-3", Addr: netip.MustParseAddr("2001:db8::3"), Ports: []int{8490}}}, nil
}

func quiet(string, int, int) {}

func TestAUnitIsStartedAndStoppedAndOnlyWhatItThenSaysCounts(t *testing.T) {
	for _, c := range []struct {
		name, before, fault, act string
		want                     error
		after                    string
	}{
		{"it starts", "inactive", "", Start, nil, "active"},
		{"it runs already", "active", "", Start, nil, "active"},
		{"it stops", "active", "", Stop, nil, "inactive"},
		{"it has stopped already", "inactive", "", Stop, nil, "inactive"},
		{"it is restarted", "active", "", Restart, nil, "active"},
		{"it does something once and ends", "once", "lies", Start, nil, "once"},
		{"it fails", "inactive", "refuses", Start, ErrFailed, "failed"},
		{"it is said to have started", "inactive", "lies", Start, ErrFailed, "inactive"},
		{"it is said to have stopped", "active", "lies", Stop, ErrFailed, "active"},
		{"it dies at once, again and again", "inactive", "dies", Start, ErrFailed, "active"},
		{"systemctl complains and it runs", "inactive", "late", Start, nil, "active"},
		{"systemctl hangs", "inactive", "hangs", Start, ErrUnknown, "inactive"},
		{"there is no such unit", "", "", Start, ErrAbsent, ""},
		{"systemd does not run", "inactive", "down", Start, ErrUnknown, "inactive"},
		{"systemd says nothing that can be read", "inactive", "garbled", Start, ErrUnknown, "inactive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			program, dir := simulated(t, "systemctl-simulator")
			limit := time.Minute
			if c.fault == "hangs" {
				limit = 200 * time.Millisecond
			}
			h := made(t, Config{Units: []Unit{{Name: "app.service", May: []string{Start, Stop, Restart}, Timeout: config.Duration(limit)}}, Programs: Programs{Systemctl: program}})
			if c.before != "" {
				write(t, filepath.Join(dir, "app.service"), c.before)
			}
			write(t, filepath.Join(dir, "fault"), c.fault)
			did, err := h.Act(t.Context(), c.act, []string{"platform"}, quiet)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("%+v %v", did, err)
			}
			if err != nil && problem.From(err).Code == "" {
				t.Errorf("%v", err)
			}
			if got := strings.TrimSpace(read(t, filepath.Join(dir, "app.service"))); got != c.after {
				t.Errorf("it is %q", got)
			}
		})
	}
}

func TestNothingIsDoneThatTheConfigurationDoesNotName(t *testing.T) {
	program, dir := simulated(t, "systemctl-simulator")
	write(t, filepath.Join(dir, "app.service"), "active")
	h := made(t, Config{Units: []Unit{{Name: "app.service", Functions: []string{"platform"}, May: []string{Start}}}, Programs: Programs{Systemctl: program}})
	for _, c := range []struct{ act, function string }{{Stop, "platform"}, {Start, "mail"}, {Restart, "platform"}, {"mask", "platform"}, {"", ""}, {Switch, "platform"}} {
		if _, err := h.Act(t.Context(), c.act, []string{c.function}, quiet); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s %s: %v", c.act, c.function, err)
		}
	}
	if calls := read(t, filepath.Join(dir, "calls")); calls != "" {
		t.Errorf("systemctl was asked: %s", calls)
	}
	empty := made(t, Config{})
	if _, err := empty.Act(t.Context(), Start, []string{"platform"}, quiet); !errors.Is(err, ErrNotAllowed) {
		t.Error(err)
	}
	if _, err := empty.Isolate(t.Context(), "rec", false, 0); !errors.Is(err, ErrNotAllowed) {
		t.Error(err)
	}
	if _, err := empty.Capture(t.Context(), "rec", quiet); !errors.Is(err, ErrNotAllowed) {
		t.Error(err)
	}
}

func TestWhatStartsLastStopsFirst(t *testing.T) {
	h := New(Options{Config: Config{Units: []Unit{{Name: "a.service"}, {Name: "b.service"}}, Compose: []Project{{Name: "c", File: "/c"}}}})
	if got := h.Plan(Start, nil); !slices.Equal(got, []string{"unit a.service", "unit b.service", "compose project c"}) {
		t.Error(got)
	}
	if got := h.Plan(Stop, nil); !slices.Equal(got, []string{"compose project c", "unit b.service", "unit a.service"}) {
		t.Error(got)
	}
}

func TestAComposeProjectIsBroughtUpAndDown(t *testing.T) {
	for _, c := range []struct {
		name, before, fault, act string
		want                     error
	}{
		{"up", "", "", Start, nil},
		{"up, with a version that writes a list", "", "list", Start, nil},
		{"up, and it is not well", "", "unhealthy", Start, ErrFailed},
		{"up, and it cannot", "", "refuses", Start, ErrFailed},
		{"down", "running", "", Stop, nil},
		{"the daemon of the containers does not run", "running", "down", Stop, ErrUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			program, dir := simulated(t, "compose-simulator")
			file := filepath.Join(dir, "compose.yaml")
			write(t, file, "services: {}")
			write(t, filepath.Join(dir, "project"), c.before)
			write(t, filepath.Join(dir, "fault"), c.fault)
			h := made(t, Config{Compose: []Project{{Name: "showroom", File: file}}, Programs: Programs{Compose: []string{program, "compose"}}})
			did, err := h.Act(t.Context(), c.act, nil, quiet)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("%+v %v", did, err)
			}
		})
	}
}

func TestARealDockerWithoutItsDaemonIsSaidToBeSo(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("there is no docker here")
	}
	if exec.Command(docker, "info").Run() == nil {
		t.Skip("docker works here, and nothing of it is to be touched")
	}
	file := filepath.Join(t.TempDir(), "compose.yaml")
	write(t, file, "services: {web: {image: none}}")
	h := made(t, Config{Compose: []Project{{Name: "showroom", File: file}}, Programs: Programs{Compose: []string{docker, "compose"}}})
	if did, err := h.Act(t.Context(), Start, nil, quiet); !errors.Is(err, ErrUnknown) {
		t.Fatalf("%+v %v", did, err)
	}
}

func TestACommandIsRunAsWrittenWithoutAShellAndWithoutThisProcesssEnvironment(t *testing.T) {
	t.Setenv("FOUNDRY_SECRET", "do-not-tell")
	dir := t.TempDir()
	program := filepath.Join(dir, "show")
	write(t, program, "#!/bin/sh\nfor a in \"$@\"; do echo \"[$a]\" >> "+dir+"/out; done\nexport >> "+dir+"/out\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	h := made(t, Config{Commands: []Command{{Name: "show", Argv: []string{program, "a b", "$(reboot)", ";", "*"}, On: []string{Start}}}})
	if _, err := h.Act(t.Context(), Start, []string{"x"}, quiet); err != nil {
		t.Fatal(err)
	}
	out := read(t, filepath.Join(dir, "out"))
	if !strings.HasPrefix(out, "[a b]\n[$(reboot)]\n[;]\n[*]\n") || strings.Contains(out, "do-not-tell") {
		t.Errorf("%s", out)
	}
}

func TestACommandThatDoesNotEndIsKilledWithAllThatItStarted(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "forever")
	write(t, program, "#!/bin/sh\nsleep 1000 &\necho $! > "+dir+"/child\nwait\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	h := made(t, Config{Commands: []Command{{Name: "forever", Argv: []string{program}, On: []string{Start}, Timeout: config.Duration(time.Second)}}})
	if _, err := h.Act(t.Context(), Start, nil, quiet); !errors.Is(err, ErrUnknown) || problem.From(err).Kind != problem.Timeout {
		t.Fatal(err)
	}
	child := strings.TrimSpace(read(t, filepath.Join(dir, "child")))
	if child == "" {
		t.Skip("it was killed before it had begun") // nothing was left then either
	}
	await(t, "its child to be gone", func() bool {
		stat := read(t, "/proc/"+child+"/stat")
		return stat == "" || strings.Contains(stat, ") Z ")
	})
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(until) {
			t.Fatal("waited in vain for " + what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestTheOutputOfACommandIsBounded(t *testing.T) {
	var o output
	for range 1000 {
		if _, err := o.Write([]byte(strings.Repeat("x", 1000) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.Write([]byte("the\x1b[31m last\x00 line\n")); err != nil {
		t.Fatal(err)
	}
	if len(o.String()) != maxTail || o.total < 1_000_000 || o.last() != "the[31m last line" {
		t.Errorf("%d %d %q", len(o.String()), o.total, o.last())
	}
}

func TestAProgramThatOthersCanChangeIsNotRun(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "p")
	write(t, program, "#!/bin/sh\ntouch "+dir+"/ran\n")
	for _, mode := range []os.FileMode{0o757, 0o777, 0o644} {
		if err := os.Chmod(program, mode); err != nil {
			t.Fatal(err)
		}
		h := made(t, Config{Commands: []Command{{Name: "p", Argv: []string{program}, On: []string{Start}}}})
		if _, err := h.Act(t.Context(), Start, nil, quiet); err == nil {
			t.Errorf("%o was run", mode)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("it ran")
	}
}

func TestMistakesInTheConfigurationNameTheirField(t *testing.T) {
	for want, c := range map[string]Config{
		"units[0].name":            {Units: []Unit{{Name: "caddy"}}},
		"units[1].name":            {Units: []Unit{{Name: "caddy.service"}, {Name: "caddy.service"}}},
		"units[0].may":             {Units: []Unit{{Name: "caddy.service", May: []string{"mask"}}}},
		"compose[0].file":          {Compose: []Project{{Name: "a", File: "compose.yaml"}}},
		"commands[0].argv":         {Commands: []Command{{Name: "a", Argv: []string{"/bin/sh", "-c", "x"}, On: []string{Start}}}},
		"commands[0].on":           {Commands: []Command{{Name: "a", Argv: []string{"/bin/true"}}}},
		"quarantine.admin[0]":      {Quarantine: &Quarantine{Admin: []string{"admin.example.eu"}}},
		"quarantine.ports[0]":      {Quarantine: &Quarantine{Ports: []int{0}}},
		"capture.disks[0]":         {Capture: &Capture{Disks: []string{"/dev/../etc/shadow"}}},
		"programs.nft":             {Programs: Programs{Nft: "nft"}},
		"capture.commands[0].kind": {Capture: &Capture{Commands: []CaptureCommand{{Name: "a", Argv: []string{"/bin/true"}, Kind: "log"}}}},
	} {
		if err := c.Validate(); err == nil || problem.From(err).Field != want {
			t.Errorf("%s: %v (%s)", want, err, problem.From(err).Field)
		}
	}
	for _, name := range []string{"--root=/x.service", "-a.service", "a b.service", "a/../b.service", "a;b.service", "a.service\n", ".service", "a.conf"} {
		if err := (Config{Units: []Unit{{Name: name}}}).Validate(); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

// nft is a program in place of nft that keeps what it is given.
func nft(t *testing.T, lie bool) (program, dir string) {
	t.Helper()
	dir = t.TempDir()
	program = filepath.Join(dir, "nft-simulator")
	keep := `text=$(cat); echo "$text" >> "` + dir + `/rules"
  case "$text" in *"policy drop"*) touch "` + dir + `/held" ;; *) rm -f "` + dir + `/held" ;; esac`
	if lie {
		keep = "cat > /dev/null"
	}
	write(t, program, "#!/bin/sh\n# A simulator of nft: it keeps what it is given and enforces nothing.\nif [ \"$1\" = -f ]; then "+keep+"\nelse\n"+
		`c='{"chain":{"family":"inet","table":"foundry_quarantine","name":"x","hook":"%s","policy":"drop"}}'
  if [ -e "`+dir+`/held" ]; then printf '{"nftables":['"$c,$c,$c"']}' input output forward; else printf '{"nftables":[]}'; fi
fi
`)
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	return program, dir
}

func TestAMachineThatIsCutOffKeepsTheFleetsDoorsAndTheAdministratorsOnly(t *testing.T) {
	program, dir := nft(t, false)
	h := made(t, Config{Quarantine: &Quarantine{Admin: []string{"198.51.100.7", "2001:db8:1::/64"}}, Programs: Programs{Nft: program}})
	c, err := h.Isolate(t.Context(), "rec-1", false, 0)
	if err != nil || len(c.Open) != 4 || c.Until.Sub(c.Since) != 24*time.Hour {
		t.Fatalf("%+v %v", c, err)
	}
	got := read(t, filepath.Join(dir, "rules"))
	if want := read(t, "testdata/quarantine.nft"); got != want {
		t.Errorf("the rules are\n%s", got)
	}
	again, err := h.Isolate(t.Context(), "rec-1", false, 0)
	if err != nil || !again.Since.Equal(c.Since) {
		t.Errorf("twice is not once: %+v %v", again, err)
	}
	if err := h.Lift(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, found, err := h.Quarantined(); found || err != nil {
		t.Error(found, err)
	}
}

func TestAQuarantineThatIsOnlySaidToHoldIsNone(t *testing.T) {
	program, _ := nft(t, true)
	h := made(t, Config{Quarantine: &Quarantine{Admin: []string{"198.51.100.7"}}, Programs: Programs{Nft: program}})
	if _, err := h.Isolate(t.Context(), "rec-1", false, 0); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
}

func TestAMachineThatNobodyCouldOpenAgainIsNotCutOff(t *testing.T) {
	program, dir := nft(t, false)
	h := New(Options{Config: Config{Quarantine: &Quarantine{}, Programs: Programs{Nft: program}}, Dir: t.TempDir(), Wait: at, Doors: func(context.Context) ([]Door, error) { return []Door{{Node: "me", Ports: []int{1}}}, nil }})
	if _, err := h.Isolate(t.Context(), "rec-1", false, 0); !errors.Is(err, ErrNotAllowed) {
		t.Fatal(err)
	}
	h.o.Doors = func(context.Context) ([]Door, error) { return nil, errors.New("no majority") }
	if _, err := h.Isolate(t.Context(), "rec-1", false, 0); err == nil {
		t.Fatal("cut off without knowing where the fleet is")
	}
	if read(t, filepath.Join(dir, "rules")) != "" {
		t.Error("rules were set")
	}
}

func TestAQuarantineOutlastsARestartAndThatOfAnExerciseEnds(t *testing.T) {
	for _, exercise := range []bool{false, true} {
		t.Run(fmt.Sprint("exercise ", exercise), func(t *testing.T) {
			program, dir := nft(t, false)
			now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
			o := Options{Config: Config{Quarantine: &Quarantine{Admin: []string{"198.51.100.7"}}, Programs: Programs{Nft: program}}, Dir: t.TempDir(), Wait: at, Doors: doors, Clock: func() time.Time { return now }}
			if _, err := New(o).Isolate(t.Context(), "rec-1", exercise, time.Hour); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "held")); err != nil { // the machine restarts, or somebody flushes the rules
				t.Fatal(err)
			}
			h := New(o)
			if err := h.tend(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "held")); err != nil {
				t.Error("the rules are gone")
			}
			now = now.Add(2 * time.Hour)
			if err := h.tend(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, found, _ := h.Quarantined(); found == exercise {
				t.Errorf("after its time it is cut off: %v", found)
			}
		})
	}
}

func TestAnExerciseDoesNotEndAQuarantineThatIsReal(t *testing.T) {
	program, _ := nft(t, false)
	h := made(t, Config{Quarantine: &Quarantine{Admin: []string{"198.51.100.7"}}, Programs: Programs{Nft: program}})
	if _, err := h.Isolate(t.Context(), "rec-real", false, 0); err != nil {
		t.Fatal(err)
	}
	if c, err := h.Isolate(t.Context(), "rec-exercise", true, time.Minute); err != nil || c.Lifts {
		t.Fatalf("%+v %v", c, err)
	}
}

func FuzzWhatProgramsSay(f *testing.F) {
	f.Add("LoadState=loaded\nActiveState=active\nSubState=running\nNRestarts=1\n")
	f.Add(`[{"Service":"a","State":"running"}]`)
	f.Add("{\"State\":\"running\"}\n{\"State\":\"exited\",\"ExitCode\":0}")
	f.Add(`{"nftables":[{"chain":{"family":"inet","table":"foundry_quarantine","hook":"input","policy":"drop"}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := readStanding(text); err == nil && s.Load == "" {
			t.Error("a unit of which nothing is known")
		}
		if list, err := readContainers([]byte(text)); err == nil && len(list) == 0 && wrong(Start, list) == "" {
			t.Error("a project without containers runs")
		}
		if held, err := readHeld([]byte(text)); held && (err != nil || !strings.Contains(text, "drop")) {
			t.Error("rules that nobody set hold")
		}
	})
}

func TestTheRealNftTakesTheRulesHoldsThemAndGivesThemBack(t *testing.T) {
	const real = "/usr/sbin/nft"
	if os.Geteuid() != 0 {
		t.Skip("rules are set by root")
	}
	if _, err := os.Stat(real); err != nil {
		t.Skip("there is no nft here")
	}
	// A network of its own: what is cut off is not this machine.
	room := exec.Command("unshare", "--net", "sleep", "300")
	if err := room.Start(); err != nil {
		t.Skip("there are no network namespaces here")
	}
	t.Cleanup(func() { _ = room.Process.Kill(); _ = room.Wait() })
	own, _ := os.Readlink("/proc/self/ns/net")
	place := fmt.Sprintf("/proc/%d/ns/net", room.Process.Pid)
	await(t, "a network of its own", func() bool {
		other, err := os.Readlink(place)
		return err != nil || other != own
	})
	if _, err := os.Readlink(place); err != nil {
		t.Skip("there are no network namespaces here")
	}
	program := filepath.Join(t.TempDir(), "nft-there")
	write(t, program, "#!/bin/sh\nexec nsenter --net="+place+" "+real+" \"$@\"\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "list", "ruleset").CombinedOutput(); err != nil {
		t.Skipf("nft does not work here: %s", out)
	}
	h := made(t, Config{Quarantine: &Quarantine{Admin: []string{"198.51.100.7", "2001:db8:1::/64"}, Ports: []int{22, 2222}}, Programs: Programs{Nft: program}})
	if held, err := h.held(t.Context()); held || err != nil {
		t.Fatal(held, err)
	}
	for range 2 {
		if _, err := h.Isolate(t.Context(), "rec-1", false, 0); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(program, "delete", "chain", "inet", table, "forward").CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	if held, err := h.held(t.Context()); held || err != nil {
		t.Fatal("rules of which a part was taken away still count as held", err)
	}
	if err := h.tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if held, err := h.held(t.Context()); !held || err != nil {
		t.Fatal(held, err)
	}
	if err := h.Lift(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command(program, "list", "ruleset").CombinedOutput(); strings.Contains(string(out), table) {
		t.Errorf("%s", out)
	}
}
