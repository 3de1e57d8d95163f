//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

// bucketText is a target in a bucket, as it stands in a configuration.
func bucketText(s *targettest.S3, name, bucket, more string) string {
	dir := filepath.Dir(s.CA)
	return fmt.Sprintf("    - {name: %s, kind: s3, path: foundry%s, s3: {endpoint: %q, bucket: %s, ca: %q, key: {file: %q}, secret: {file: %q}}}\n",
		name, more, strings.Replace(s.Endpoint, "127.0.0.1", "localhost", 1), bucket, s.CA, filepath.Join(dir, "key-"+name), filepath.Join(dir, "secret-"+name))
}

// withKeys writes the credentials that bucketText names.
func withKeys(t *testing.T, s *targettest.S3, name string) {
	t.Helper()
	dir := filepath.Dir(s.CA)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "key-"+name), []byte(s.Key), 0o600), os.WriteFile(filepath.Join(dir, "secret-"+name), []byte(s.Secret), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// newBackedUp prepares a node with targets as they stand in a configuration.
func newBackedUp(t *testing.T, more, targets string) *guarded {
	t.Helper()
	g := newGuarded(t, "")
	_, port, _ := strings.Cut(strings.TrimPrefix(g.url, "https://"), ":")
	g.write(t, fmt.Sprintf("listen: {https: \"127.0.0.1:%s\", http: \"off\"}\nnode: {country: FI}\nbackup:\n  archive_timeout: 1s\n%s  targets:\n%s", port, more, targets))
	return g
}

// lost kills the node, and takes everything of it away but what is in keep.
func (g *guarded) lost() {
	g.t.Helper()
	// Its database server takes a moment to die, and takes the socket at this
	// path with it: by then that may be the recovered server's.
	text, err := os.ReadFile(filepath.Join(g.data(), "postgres", "data", "postmaster.pid"))
	if err != nil {
		g.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		g.t.Fatal(err)
	}
	g.kill()
	await(g.t, "the machine to be lost", func() (bool, string) {
		if alive(pid) {
			return false, "its database server still runs"
		}
		err := errors.Join(os.RemoveAll(g.data()), os.RemoveAll(filepath.Join(g.dir, "foundry.yaml")))
		return err == nil, fmt.Sprint(err)
	})
}

// answers starts the recovered node and waits for the first answered request
// of a client, with the API key of before.
func (g *guarded) answers(key string) {
	g.t.Helper()
	g.start()
	await(g.t, "the first answered request", func() (bool, string) {
		a := g.ask(context.Background(), key, "simulator-chat", 8, false, "are you back?")
		return a.status == 200, fmt.Sprintf("%+v", a)
	})
}

// A node whose backups lie in buckets and on an SFTP server comes back with
// nothing but the program, the kit, two shares and those servers; from the one
// that has the newest point, and while another is away.
func TestANodeComesBackFromBucketsAndAnSFTPServer(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes; the full pass runs it")
	}
	t.Parallel()
	first, second, files := targettest.StartS3(t), targettest.StartS3(t), targettest.StartSSH(t)
	first.Bucket(t, "near")
	second.Bucket(t, "far")
	withKeys(t, first, "first")
	withKeys(t, second, "second")
	if err := os.Mkdir(filepath.Join(files.Root, "files"), 0o700); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(tempDir(t), "precious")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(precious, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	g := newBackedUp(t, fmt.Sprintf("  files: [%q]\n", precious), bucketText(first, "first", "near", "")+bucketText(second, "second", "far", ", engines: [pgbackrest]")+
		fmt.Sprintf("    - {name: files, kind: sftp, path: %q, sftp: {host: %s, port: %d, user: %s, key: {file: %q}, known_hosts: %q}}\n",
			filepath.Join(files.Root, "files"), files.Host, files.Port, files.User, files.KeyFile, files.KnownHosts))
	g.start()
	key := g.FirstKey
	g.say("org", "create", "survivor-one")
	await(t, "the first backups to be drilled", func() (bool, string) {
		var drills []backup.Drill
		s, _ := g.status()
		list := g.run("backup", "list", "--drills", "--json")
		ok := json.Unmarshal([]byte(list.out), &drills) == nil && len(drills) >= 4 && len(s.Running) == 0
		return ok, fmt.Sprintf("%d drills, %+v", len(drills), s.Problems)
	})
	shares := filepath.Join(g.dir, "shares")
	g.say("breakglass", "create", "--reason", "for the test of recovery", "--out", shares)
	g.say("backup", "run")
	for place, root := range map[string]string{"first": filepath.Join(first.Root, "near"), "second": filepath.Join(second.Root, "far"), "files": files.Root} {
		if kits, _ := filepath.Glob(filepath.Join(root, "foundry", "foundry-kit-*.age")); place != "files" && len(kits) != 1 {
			t.Errorf("kits at %s: %v", place, kits)
		}
	}

	// The first goes, and what is written from now on is at the others only.
	first.Stop()
	g.say("org", "create", "survivor-two")
	write("two")
	g.say("backup", "run", "--target", "second", "--target", "files")
	g.fails("target-gone", "backup", "run", "--target", "first")
	kits, _ := filepath.Glob(filepath.Join(second.Root, "far", "foundry", "foundry-kit-*.age"))
	if len(kits) != 1 {
		t.Fatalf("kits at the second: %v", kits)
	}
	kit := filepath.Join(g.dir, filepath.Base(kits[0]))
	body, err := os.ReadFile(kits[0])
	if err = errors.Join(err, os.WriteFile(kit, body, 0o600)); err != nil {
		t.Fatal(err)
	}
	g.lost()

	given := []string{"recover", "--kit", kit, "--share", filepath.Join(shares, "share-1.txt"), "--share", filepath.Join(shares, "share-3.txt")}
	began := time.Now()
	dry := g.say(append(given, "--dry-run")...)
	if !strings.Contains(dry, "target second") || !strings.Contains(dry, "first was not used") || !strings.Contains(dry, "Nothing was changed") {
		t.Errorf("the dry run, while the first is away: %s", dry)
	}
	t.Logf("dry run with one of three away: %s", time.Since(began).Round(time.Millisecond))

	for _, turn := range []string{"the first is away", "the first is back, and behind"} {
		if turn != "the first is away" {
			if err := os.RemoveAll(g.data()); err != nil {
				t.Fatal(err)
			}
			first.Restart(t)
		}
		began = time.Now()
		out := g.say(append(given, "--json")...)
		var r backup.Recovery
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if r.Target != "second" || r.Proof == nil || r.Proof.Outcome != "pass" || !r.Fenced {
			t.Errorf("%s: %s", turn, out)
		}
		if away := strings.Contains(fmt.Sprint(r.Notes), "first was not used"); away != (turn == "the first is away") {
			t.Errorf("%s: notes %q", turn, r.Notes)
		}
		if found := below(t, filepath.Join(g.data(), "recovery"), "precious"); found == "" {
			t.Errorf("%s: the file that was named in the configuration was not restored", turn)
		} else if text, err := os.ReadFile(found); err != nil || string(text) != "two" {
			t.Errorf("%s: it holds %q (%v): it is not the newest, from the SFTP server", turn, text, err)
		}
		t.Logf("%s: recovered after %s", turn, time.Since(began).Round(time.Millisecond))
	}
	g.say("recover", "--activate")
	g.config = filepath.Join(g.data(), "foundry.yaml")
	g.answers(key)
	t.Logf("from the kit to the first answered request: %s", time.Since(began).Round(time.Millisecond))
	if list := g.say("org", "list"); !strings.Contains(list, "survivor-one") || !strings.Contains(list, "survivor-two") {
		t.Errorf("what was recovered: %s", list)
	}
	g.say("backup", "run", "--type", "full")
	if d, s := g.drill("--target", "first"); d.Outcome != backup.Pass {
		t.Errorf("a drill of the recovered node from the first: %s (%s): %s", d.Outcome, s.err, d.Reason)
	}
}
