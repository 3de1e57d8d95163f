//go:build faults

package faults

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

// process is one process of a fleet on this machine: a data directory, a
// configuration and the roles that it runs with.
type process struct {
	t      *testing.T
	name   string
	config string
	data   string
	log    *logBuffer

	program string   // empty: the one under test
	env     []string // beside this process's own

	cmd    *exec.Cmd
	exited chan struct{}
}

func (p *process) command(args ...string) *exec.Cmd {
	cmd := exec.Command(cmp.Or(p.program, binary), args...)
	cmd.Env = append(os.Environ(), p.env...)
	return cmd
}

// doorsOf is the section fleet of a configuration, with free addresses.
func doorsOf(t *testing.T, name string) string {
	t.Helper()
	free := membertest.Free(t, 3)
	return fmt.Sprintf("fleet:\n  name: %s\n  listen: {peers: %q, clients: %q, join: %q}\n", name, free[0], free[1], free[2])
}

func newProcess(t *testing.T, name string) *process {
	t.Helper()
	dir := tempDir(t)
	p := &process{t: t, name: name, config: filepath.Join(dir, name+".yaml"), data: filepath.Join(dir, "d"), log: &logBuffer{}}
	if err := os.WriteFile(p.config, []byte("data_dir: "+p.data+"\n"+doorsOf(t, name)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the log of %s:\n%s", name, p.log.tail(3000))
		}
	})
	return p
}

// serve starts it and waits for its greeting.
func (p *process) serve(roles string) {
	p.t.Helper()
	p.cmd = p.command("serve", "--json", "--config", p.config, "--role", roles)
	stdout, greeting := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = greeting, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.exited = make(chan struct{})
	started := make(chan error, 1)
	cmd, exited := p.cmd, p.exited
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread that started the process
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		_ = greeting.Close()
	}()
	if err := <-started; err != nil {
		p.t.Fatal(err)
	}
	var hello map[string]any
	if err := json.NewDecoder(stdout).Decode(&hello); err != nil {
		<-exited
		p.t.Fatalf("%s did not start: %s", p.name, p.log.tail(2000))
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
}

func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		<-p.exited
		p.cmd = nil
	}
}

// run runs a command about this process.
func (p *process) run(args ...string) said { return p.runAs(nil, args...) }

func (p *process) runAs(who *syscall.Credential, args ...string) said {
	var out, text bytes.Buffer
	cmd := p.command(append([]string{"--data-dir", p.data}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &text
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	if err := cmd.Run(); cmd.ProcessState == nil {
		return said{err: err.Error(), code: -1}
	}
	return said{out.String(), text.String(), cmd.ProcessState.ExitCode()}
}

// say is run for a command that must succeed, soon.
func (p *process) say(args ...string) (out string) {
	p.t.Helper()
	await(p.t, p.name+" to do "+strings.Join(args, " "), func() (bool, string) {
		s := p.run(args...)
		out = s.out
		return s.code == 0, s.out + s.err
	})
	return out
}

// join lets a process into the fleet of another with a fresh invitation.
func (p *process) join(invite func(args ...string) string, roles string) {
	p.t.Helper()
	token := strings.Fields(invite("node", "invite", p.name, "--roles", roles))[0]
	// The fleet takes no member while one that votes came in the last five seconds.
	await(p.t, p.name+" to join", func() (bool, string) {
		s := p.run("node", "join", token, "--config", p.config)
		return s.code == 0, s.err
	})
}

const theTakeOver = `version: 1
organisation: {name: Demo, owner: anna, country: FI}
people: [{name: anna}]
nodes:
  - {name: node-1, roles: [gateway, fleet]}
  - {name: node-2, roles: [fleet]}
  - {name: node-3, roles: [witness]}
functions:
  - name: platform
    mtd: 1 day
    rto: 4h
    host: [node-1]
    fallbacks: [{node: node-2, state: warm, data: backup}, {node: node-3, state: cold}]
`

// A node with its own database is lost with its disk. The one that the plan
// names brings it back from the backups with what it was left: nobody brings a
// kit or a share, clients go on with the keys and the authority that they have.
func TestASurvivorTakesOverFromALostNodeWithoutAKit(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, shelf(t))
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, string(text)+doorsOf(t, "node-1"))
	g.proven()
	two, witness := newProcess(t, "node-2"), newProcess(t, "node-3")
	two.join(g.say, "fleet")
	witness.join(g.say, "witness")
	two.serve("fleet")
	witness.serve("witness")
	two.say("node", "status")

	plan := filepath.Join(g.dir, "fleet.yaml")
	if err := os.WriteFile(plan, []byte(theTakeOver), 0o600); err != nil {
		t.Fatal(err)
	}
	var revision struct {
		Revision struct{ ID string } `json:"revision"`
		ID       string              `json:"id"`
	}
	submitted := g.say("plan", "submit", plan, "--note", "The first.", "--json")
	if err := json.Unmarshal([]byte(submitted), &revision); err != nil {
		t.Fatalf("%v: %s", err, submitted)
	}
	if revision.ID == "" {
		revision.ID = revision.Revision.ID
	}
	g.say("plan", "approve", revision.ID, "--reason", "Agreed.")
	await(t, "node-2 to be ready to take over", func() (bool, string) {
		s := two.run("node", "readiness")
		// Only with a backup that node-2 finds itself.
		return strings.Contains(s.out, "node-2 could take over platform from node-1 now.") && strings.Contains(s.out, "the backups at shelf reached to 20"), s.out + s.err
	})

	kept := unique("kept")
	g.say("org", "create", kept)
	g.say("backup", "run")
	keys, authority := fingerprints(t, g.data())
	into := filepath.Join(filepath.Dir(two.data), "taken")
	take := func(more ...string) []string {
		return append([]string{"recover", "--take-over", "node-1", "--config", two.config, "--data-dir", into}, more...)
	}
	const why = "node-1 is lost with its disk"

	// While it lives, and by whom it must not be.
	if s := two.run(take("--dry-run")...); s.code != 0 || !strings.Contains(s.out, "Nothing was changed") {
		t.Errorf("a dry run: %d: %s%s", s.code, s.out, s.err)
	}
	refused := func(what, code string, s said) {
		t.Helper()
		if s.code == 0 || !strings.Contains(s.err, code) {
			t.Errorf("%s: %d: %s%s", what, s.code, s.out, s.err)
		}
		if _, err := os.Stat(into); !os.IsNotExist(err) {
			t.Fatalf("%s: the data directory was begun", what)
		}
	}
	refused("while it answers", "survivor-alive", two.run(take("--reason", why, "--json")...))
	g.kill()
	lost := filepath.Join(g.dir, "lost")
	if err := os.Rename(g.data(), lost); err != nil {
		t.Fatal(err)
	}
	refused("without a reason", "recovery-reason", two.run(take("--json")...))
	refused("on the witness", "survivor-nothing", witness.run("recover", "--take-over", "node-1", "--config", witness.config, "--data-dir", into, "--reason", why, "--json"))
	refused("from a node that left nothing", "survivor-nothing", two.run("recover", "--take-over", "node-3", "--config", two.config, "--data-dir", into, "--reason", why, "--json"))
	if err := os.Chmod(two.config, 0o644); err != nil { // the settings are no secret; what they name is
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(binary), 0o711); err != nil {
		t.Fatal(err)
	}
	refused("by another user", "local-user", two.runAs(&syscall.Credential{Uid: 65534, Gid: 65534}, take("--reason", why, "--json")...))

	// Killed while it restores, it goes on.
	await(t, "node-2 to see that node-1 is gone", func() (bool, string) {
		s := two.run("node", "list")
		return strings.Contains(s.out, "does not answer"), s.out + s.err
	})
	first := exec.Command(binary, take("--reason", why)...)
	progress, err := first.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	for b := make([]byte, 256); !strings.Contains(seen.String(), "step: "+backup.StepDatabase); {
		n, err := progress.Read(b)
		seen.Write(b[:n])
		if err != nil {
			t.Fatalf("it ended before it restored: %s", seen.String())
		}
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	s := two.run(take("--reason", why)...)
	if s.code != 0 || !strings.Contains(s.out, "proof: pass") || !strings.Contains(s.out, "taken over: by node-2 from node-1") {
		t.Fatalf("taking over: %d: %s%s", s.code, s.out, s.err)
	}
	t.Log(s.out)
	if k, a := fingerprints(t, into); k != keys || a != authority {
		t.Error("the recovered node has other keys or another authority")
	}

	// It takes the place of the lost one in the fleet.
	next := &process{t: t, name: "node-1", config: filepath.Join(into, "foundry.yaml"), data: into, log: &logBuffer{}}
	t.Cleanup(next.kill)
	if s := next.run("recover", "--activate"); s.code != 0 {
		t.Fatal(s.err)
	}
	two.say("node", "remove", "node-1")
	next.join(two.say, "gateway")
	next.serve("gateway")
	await(t, "the taken-over node to be in the fleet", func() (bool, string) {
		s := two.run("node", "list")
		return strings.Contains(s.out, "node-1") && !strings.Contains(s.out, "not there"), s.out + s.err
	})
	if list := next.say("org", "list"); !strings.Contains(list, kept) {
		t.Errorf("%s is not among what was recovered: %s", kept, list)
	}
	// The client, with its key, its URL and the authority that it trusts.
	body := `{"model": "routine", "messages": [{"role": "user", "content": "Hello"}]}`
	req, err := http.NewRequest(http.MethodPost, g.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.FirstKey)
	req.Header.Set("Content-Type", "application/json")
	answer, err := g.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if said, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK {
		t.Errorf("the client's key: %s: %s", answer.Status, said)
	}
	var entries []audit.Entry
	await(t, "the take-over to be in the audit log", func() (bool, string) {
		s := next.run("audit", "list", "--act", "recovery.activate", "--json")
		return json.Unmarshal([]byte(s.out), &entries) == nil && strings.Contains(s.out, why) && strings.Contains(s.out, `"taken_over"`), s.out + s.err
	})
	next.say("audit", "verify")
	next.say("backup", "run", "--type", "full")
	next.say("keys", "status")
}

// fingerprints are what the keyring and the authority of a node are known by.
func fingerprints(t *testing.T, data string) (keys, authority string) {
	t.Helper()
	for path, to := range map[string]*string{"keys/kek.fingerprint": &keys, "ca/ca.pem": &authority} {
		text, err := os.ReadFile(filepath.Join(data, path))
		if err != nil {
			t.Fatal(err)
		}
		*to = string(text)
	}
	return keys, authority
}
