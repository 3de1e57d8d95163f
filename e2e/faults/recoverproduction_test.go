//go:build faults

package faults

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/backup"
)

// volume is a file system of its own that can be unmounted and mounted again
// with what is on it.
type volume struct {
	t    *testing.T
	disk string // where its content is all the time
	path string // where it is mounted
}

// newVolume makes one and mounts it. The mount point lies on the volume of
// everything else.
func newVolume(t *testing.T, size string) *volume {
	t.Helper()
	v := &volume{t: t, disk: disk(t, size), path: filepath.Join(tempDir(t), "mnt")}
	if err := os.Mkdir(v.path, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(v.path, unix.MNT_DETACH) })
	v.mount()
	return v
}

func (v *volume) mount() {
	v.t.Helper()
	if err := unix.Mount(v.disk, v.path, "", unix.MS_BIND, ""); err != nil {
		v.t.Fatal(err)
	}
}

// unmount takes it away under whoever uses it.
func (v *volume) unmount() {
	v.t.Helper()
	if err := unix.Unmount(v.path, unix.MNT_DETACH); err != nil {
		v.t.Fatal(err)
	}
}

// bare checks that nothing was written to the empty mount point.
func (v *volume) bare(what string) {
	v.t.Helper()
	entries, err := os.ReadDir(v.path)
	if err != nil || len(entries) != 0 {
		v.t.Errorf("%s: the empty mount point holds %v (%v)", what, entries, err)
	}
}

// client is a node in production, as a client runs it: the key-encryption key
// is a credential on another volume, backups go to other volumes, and people
// sign in with a second factor.
type client struct {
	*guarded
	head, security, operator *member
}

// member is a person who uses the command line.
type member struct {
	*somebody
	n        *node
	sessions string // file of their sign-ins
	spent    int64  // step of the last code of the authenticator app
}

const totpStep = 30 // seconds (RFC 6238)

// newClient prepares a node in production with targets on volumes.
func newClient(t *testing.T, volumes map[string]*volume) *client {
	t.Helper()
	credentials := disk(t, "4m")
	key := base64.StdEncoding.EncodeToString(randomBytes(32))
	if err := os.WriteFile(filepath.Join(credentials, "foundry-kek"), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &client{guarded: newGuarded(t, "")}
	c.env = []string{"CREDENTIALS_DIRECTORY=" + credentials}
	_, port, _ := strings.Cut(strings.TrimPrefix(c.url, "https://"), ":")
	text := fmt.Sprintf(`mode: production
listen: {https: "127.0.0.1:%s", http: "off"}
node: {country: FI, supplier: ours, account: ours-1}
keys: {kek: {credential: foundry-kek}}
backup:
  archive_timeout: 1s
  targets:
`, port)
	for name, v := range volumes {
		text += fmt.Sprintf("    - {name: %s, kind: directory, path: %q, host: nas.example, supplier: theirs, account: theirs-1, country: DE}\n", name, v.path)
	}
	c.write(t, text)
	return c
}

// people brings the first administrator in, who invites the others.
func (c *client) people() {
	c.t.Helper()
	said := c.say("person", "bootstrap", "head@example.org", "--name", "Head", "--json")
	var first struct{ Token string }
	if err := json.Unmarshal([]byte(said), &first); err != nil || first.Token == "" {
		c.t.Fatalf("%v: %s", err, said)
	}
	c.head = c.enrol(first.Token, "head@example.org")
	c.security, c.operator = c.hire("platform-security"), c.hire("platform-operator")
}

func (c *client) hire(role string) *member {
	c.t.Helper()
	var i struct{ Token string }
	email := unique(role) + "@example.org"
	c.head.must(c.t, "POST", "/invitations", map[string]any{"organisation": "", "email": email, "name": "Somebody", "roles": []string{role}}, &i)
	return c.enrol(i.Token, email)
}

// enrol accepts an invitation, sets an authenticator app up, and signs in at
// the command line.
func (c *client) enrol(invitation, email string) *member {
	c.t.Helper()
	m := &member{somebody: &somebody{n: c.node, email: email}, n: c.node, sessions: filepath.Join(c.dir, "sessions-"+email)}
	var in access.SignedIn
	m.must(c.t, "POST", "/invitation/accept", map[string]any{"token": invitation, "password": password}, &in)
	m.id, m.token = in.Session.Person.String(), in.Token
	var app access.TOTPEnrolment
	m.must(c.t, "POST", "/session/totp", nil, &app)
	m.secret = app.Secret
	now := time.Now()
	var done access.Enrolled
	m.must(c.t, "POST", "/session/totp/confirm", map[string]any{"ceremony": app.Ceremony, "code": m.code(c.t, now)}, &done)
	m.token, m.spent = done.SignedIn.Token, now.Unix()/totpStep
	m.login(c.t)
	return m
}

// login signs in at the command line, with a code that was not used before.
func (m *member) login(t *testing.T) {
	t.Helper()
	m.n.sessions = m.sessions
	for time.Now().Unix()/totpStep+1 <= m.spent { // a code of the next step is taken, none is taken twice
		pass(20 * glance)
	}
	at := time.Now().Add(totpStep * time.Second)
	m.spent = at.Unix() / totpStep
	var out bytes.Buffer
	cmd := m.n.command("login", "--email", m.email)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(password+"\n"+m.code(t, at)+"\n"), &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("signing in as %s: %v: %s", m.email, err, out.String())
	}
}

// as acts at the command line in the name of a person.
func (c *client) as(m *member) { c.sessions = m.sessions }

// kit has two people make a recovery key, and returns a copy of the kit and
// two files with shares.
func (c *client) kit(at string) (file string, shares []string) {
	c.t.Helper()
	dir := filepath.Join(c.dir, "shares")
	c.as(c.security)
	s := c.run("breakglass", "create", "--reason", "for the test of recovery", "--out", dir)
	if s.code != 0 && !strings.Contains(s.out+s.err, "approv") {
		c.t.Fatalf("asking for a recovery key: %+v", s)
	}
	request := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`).FindString(s.out + s.err)
	if request == "" {
		c.t.Fatalf("no request is named: %+v", s)
	}
	c.as(c.head)
	c.say("breakglass", "approve", request)
	c.as(c.security)
	c.say("breakglass", "create", "--request", request, "--out", dir)
	c.as(c.operator)
	c.say("backup", "run")
	kits, _ := filepath.Glob(filepath.Join(at, "foundry-kit-*.age"))
	if len(kits) != 1 {
		c.t.Fatalf("kits at the target: %v", kits)
	}
	return kits[0], []string{filepath.Join(dir, "share-1.txt"), filepath.Join(dir, "share-2.txt")}
}

// calm waits until the node has made its own first backups and drills.
func (c *client) calm(drills int) {
	c.t.Helper()
	await(c.t, "the first backups to be drilled", func() (bool, string) {
		var all []backup.Drill
		s, _ := c.status()
		list := c.run("backup", "list", "--drills", "--json")
		ok := json.Unmarshal([]byte(list.out), &all) == nil && len(all) >= drills && len(s.Running) == 0
		return ok, fmt.Sprintf("%d drills, %+v", len(all), s.Problems)
	})
}

func (c *client) targetNamed(name string) (out backup.TargetStatus) {
	c.t.Helper()
	s, _ := c.status()
	for _, t := range s.Targets {
		if t.Name == name {
			out = t
		}
	}
	return out
}

// A disk for backups that is not mounted keeps no node from starting: the node
// refuses that disk alone and loudly, goes on with another, writes nothing
// under the empty mount point, and goes on there when the disk is back.
func TestAProductionNodeStartsWhileItsBackupDiskIsNotMounted(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes; the full pass runs it")
	}
	t.Parallel()
	shelf, second := newVolume(t, "300m"), newVolume(t, "300m")
	c := newClient(t, map[string]*volume{"shelf": shelf, "second": second})
	shelf.unmount()
	if err := c.tryStart(); err == nil || !strings.Contains(err.Error(), "target-same-volume") {
		t.Fatalf("a target that was never seen, on the data's volume: %v", err)
	}
	shelf.bare("before it was ever mounted")
	shelf.mount()
	c.start()
	c.people()
	c.as(c.operator)
	c.calm(4)
	had := len(c.points("shelf"))
	if code := c.stop(); code != 0 {
		t.Fatalf("stopping: %d", code)
	}

	shelf.unmount()
	c.start()
	await(t, "the disk to be called away", func() (bool, string) {
		s, _ := c.status()
		for _, p := range s.Problems {
			if p.Target == "shelf" && p.Severity == "critical" && strings.Contains(p.Mend, "Mount it") && strings.Contains(p.Mend, "never begins a repository on the data's own disk") {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%+v", s.Problems)
	})
	if at := c.targetNamed("shelf"); at.Reachable || len(at.NotApart) != 0 && strings.Contains(strings.Join(at.NotApart, " "), "volume") || !strings.Contains(at.Failure, "away") {
		t.Errorf("it is shown as %+v", at)
	}
	c.fails("target-away", "backup", "run", "--target", "shelf")
	c.say("backup", "run", "--target", "second")
	if at := c.targetNamed("second"); !at.Reachable || at.Failure != "" && strings.Contains(at.Failure, "away") {
		t.Errorf("the other is shown as %+v", at)
	}
	c.controlsSay("shelf")
	shelf.bare("after a start, a refused run and the other's backup")

	shelf.mount()
	t.Logf("taken back after %s", c.takenBack("shelf").Round(time.Millisecond))
	c.as(c.operator)
	c.say("backup", "run", "--target", "shelf")
	if now := len(c.points("shelf")); now <= had {
		t.Errorf("the repository had %d points, and has %d", had, now)
	}

	// Taken away while an engine writes there.
	for _, step := range []struct{ engine, subject string }{{"pgbackrest", "database"}, {"restic", "files"}} {
		job := c.begin("backup", "run", step.subject, "--target", "shelf", "--json")
		c.hold(step.engine, "backup")
		shelf.unmount()
		c.letGo()
		select {
		case s := <-job.done:
			if s.code == 0 || !strings.Contains(s.out, `"target-away"`) {
				t.Errorf("%s: the disk was taken away in the middle: exit code %d: %s%s", step.engine, s.code, s.out, s.err)
			}
		case <-time.After(3 * patience):
			t.Fatalf("%s: the run does not end", step.engine)
		}
		for _, name := range []string{"config", "archive.info", "backup.info", "foundry-target.json"} {
			if found := below(t, shelf.path, name); found != "" {
				t.Errorf("%s: a repository was begun under the empty mount point: %s", step.engine, found)
			}
		}
		shelf.mount()
		c.takenBack("shelf")
	}
	c.as(c.operator)
	c.say("backup", "run", "--target", "shelf")
	c.say("backup", "verify")
	if d, s := c.drill("--target", "shelf"); d.Outcome != backup.Pass {
		t.Errorf("after all of it: %s (%s): %s", d.Outcome, s.err, d.Reason)
	}
}

// takenBack waits until a target is as if it had never been away.
func (c *client) takenBack(name string) time.Duration {
	c.t.Helper()
	c.as(c.operator)
	return await(c.t, "the disk to be taken back", func() (bool, string) {
		s, _ := c.status()
		at := c.targetNamed(name)
		return at.Reachable && at.Failure == "" && len(s.Running) == 0 && s.WALLagSeconds >= 0 && s.WALLagSeconds < 60, fmt.Sprintf("%+v, lag %.0f s", at, s.WALLagSeconds)
	})
}

func (c *client) points(at string) (out []backup.Point) {
	c.t.Helper()
	var all []backup.Point
	if err := json.Unmarshal([]byte(c.say("backup", "list", "--json")), &all); err != nil {
		c.t.Fatal(err)
	}
	for _, p := range all {
		if p.Target == at {
			out = append(out, p)
		}
	}
	return out
}

// controlsSay checks that the controls about backups do not call a target good
// that is away.
func (c *client) controlsSay(target string) {
	c.t.Helper()
	c.as(c.security)
	for _, control := range []string{"O-29", "O-31"} {
		if s := c.run("controls", "run", control); s.code != 1 && s.code != 3 {
			c.t.Errorf("running %s while a target is away: %+v", control, s)
		}
		if s := c.run("controls", "show", control); s.code == 0 || !strings.Contains(s.out, "target "+target+" is away") {
			c.t.Errorf("%s does not say that the target is away: %+v", control, s)
		}
	}
	c.as(c.operator)
}

// below finds a file by its name.
func below(t *testing.T, root, name string) (found string) {
	t.Helper()
	if err := filepath.Walk(root, func(p string, info os.FileInfo, err error) error {
		if err == nil && info.Name() == name {
			found = p
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// Everything of a client's node is gone but the disk with its backups, the kit
// and two shares: it comes back on another machine, fenced, and people sign in
// with the password and the authenticator app that they had.
func TestAProductionNodeComesBackFromItsKit(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes; the full pass runs it")
	}
	t.Parallel()
	shelf := newVolume(t, "400m")
	c := newClient(t, map[string]*volume{"shelf": shelf})
	c.start()
	c.people()
	c.as(c.head)
	survivor := unique("survivor")
	c.say("org", "create", survivor)
	c.as(c.operator)
	c.calm(2)
	file, shares := c.kit(shelf.path)
	if d, s := c.drill(); d.Outcome != backup.Pass {
		t.Fatalf("the drill: %s (%s): %s", d.Outcome, s.err, d.Reason)
	}
	kit := filepath.Join(c.dir, filepath.Base(file))
	if body, err := os.ReadFile(file); err != nil || os.WriteFile(kit, body, 0o600) != nil {
		t.Fatal(err)
	}
	c.kill()
	began := time.Now()
	await(t, "the machine to be lost", func() (bool, string) { // its database server takes a moment to die
		err := errors.Join(os.RemoveAll(c.data()), os.RemoveAll(c.config))
		return err == nil, fmt.Sprint(err)
	})

	// The other machine.
	c.env, c.sessions = nil, ""
	given := []string{"recover", "--kit", kit, "--share", shares[0], "--share", shares[1]}
	if s := c.run(given...); s.code == 0 || !strings.Contains(s.err, "--kek") {
		t.Errorf("without a place for the key-encryption key: %d: %s", s.code, s.err)
	}
	if s := c.run(append(given, "--kek", filepath.Join(c.dir, "kek"))...); s.code == 0 || !strings.Contains(s.err, "volume") {
		t.Errorf("with the key-encryption key on the data's volume: %d: %s", s.code, s.err)
	}
	kek := filepath.Join(disk(t, "4m"), "foundry.kek")
	dry := c.say(append(given, "--kek", kek, "--dry-run")...)
	if !strings.Contains(dry, "Nothing was changed") {
		t.Errorf("the dry run: %s", dry)
	}
	out := c.say(append(given, "--kek", kek)...)
	if !strings.Contains(out, "proof: pass") {
		t.Errorf("the recovery: %s", out)
	}
	c.config = filepath.Join(c.data(), "foundry.yaml")
	c.fencedNow()
	c.say("recover", "--activate")
	c.start()
	await(t, "the first answered request", func() (bool, string) {
		r, err := c.readiness()
		return err == nil && r.Database, fmt.Sprintf("%+v, %v", r, err)
	})
	t.Logf("from everything gone to ready: %s", time.Since(began).Round(time.Millisecond))

	c.getIn(shares, "operate", "org list", "status", "backup status", "breakglass status", "backup run --type full")

	// With the password and the authenticator app of before.
	c.head.login(t)
	if list := c.say("org", "list"); !strings.Contains(list, survivor) {
		t.Errorf("%s is not among what was recovered: %s", survivor, list)
	}
	c.security.login(t)
	if text := c.say("audit", "verify"); !strings.Contains(text, "Nothing was changed") {
		t.Errorf("the audit log: %s", text)
	}
	c.operator.login(t)
	c.say("backup", "run", "--type", "full")
	if d, s := c.drill(); d.Outcome != backup.Pass {
		t.Errorf("a drill of the recovered node: %s (%s): %s", d.Outcome, s.err, d.Reason)
	}
	if s := c.say("breakglass", "status"); !strings.Contains(s, "ready") {
		t.Errorf("the kit: %s", s)
	}
}

// getIn does what the runbook says in the name of nobody: whoever recovers may
// have no account.
func (c *client) getIn(shares []string, scope string, commands ...string) {
	c.t.Helper()
	c.sessions = ""
	if s := c.run("org", "list"); s.code == 0 || !strings.Contains(s.err, "signing in") {
		c.t.Errorf("without signing in: %+v", s)
	}
	said := c.say("breakglass", "open", "--scope", scope, "--reason", "bringing the node back from its kit", "--share", shares[0], "--share", shares[1], "--json")
	var opened struct{ Token string }
	if err := json.Unmarshal([]byte(said), &opened); err != nil || opened.Token == "" {
		c.t.Fatalf("%v: %s", err, said)
	}
	for _, line := range append(commands, "breakglass end") {
		cmd := c.command(strings.Fields(line)...)
		cmd.Env = append(cmd.Env, "FOUNDRY_EMERGENCY="+opened.Token)
		if out, err := cmd.CombinedOutput(); err != nil && line != "backup status" { // which is not green yet
			c.t.Errorf("%s, with the shares: %v: %s", line, err, out)
		}
	}
}

// fencedNow starts the node and checks that it answers that it is fenced, to
// everybody, and nothing else.
func (c *client) fencedNow() {
	c.t.Helper()
	c.start()
	for _, path := range []string{"/organisations", "/status"} {
		if status, text := c.over("", "GET", path, nil, nil); status != 503 || !strings.Contains(text, "fenced") {
			c.t.Errorf("%s of a fenced node: %d %s", path, status, text)
		}
	}
	if status, text := c.over("", "POST", "/signin", map[string]any{"email": c.head.email, "password": password}, nil); status != 503 {
		c.t.Errorf("signing in to a fenced node: %d %s", status, text)
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	c.wait()
}
