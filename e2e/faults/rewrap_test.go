//go:build faults

package faults

import (
	"bytes"
	crand "crypto/rand"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// wrapped wants every keyset to be wrapped by the key-encryption key in force,
// with one entry for each time that a keyset was wrapped anew.
func (i *installation) wrapped() (kek string) {
	i.t.Helper()
	status := i.encryption()
	for _, k := range status.Keysets {
		if k.KEK != status.KEK.Fingerprint {
			i.t.Errorf("the keyset of %s is wrapped by %s, in force is %s", k.Organisation, k.KEK, status.KEK.Fingerprint)
		}
	}
	if len(status.Warnings) != 0 {
		i.t.Errorf("%q", status.Warnings)
	}
	return status.KEK.Fingerprint
}

// toldOnce wants the log to say of each keyset once by which key it was
// wrapped anew.
func (i *installation) toldOnce(kek string) {
	i.t.Helper()
	// The controls' own organisation may get its keyset at any moment, and then
	// under the key of that moment.
	const (
		notProbes = ` organisation_id NOT IN (SELECT id FROM organisations WHERE name = 'foundry-probes')`
		ofKeysets = `SELECT count(*) FROM audit WHERE act = 'keys.rewrap' AND NOT details ? 'files' AND` + notProbes
	)
	if n, want := i.count(ofKeysets+` AND target = $1`, kek), i.count(`SELECT count(*) FROM keysets WHERE`+notProbes); n != want {
		i.t.Errorf("%d entries say that a keyset is wrapped by %s, of %d keysets", n, kek, want)
	}
	if n := i.count(`SELECT count(*) FROM (SELECT FROM audit WHERE act = 'keys.rewrap' AND NOT details ? 'files' GROUP BY organisation_id, target HAVING count(*) > 1) twice`); n != 0 {
		i.t.Errorf("%d keysets have two entries for one key", n)
	}
}

// Killed between any two keysets, and before its last entry, a change of the
// key-encryption key leaves everything readable and goes on when it is asked
// for again.
func TestARewrapOfARealNodeIsKilledBetweenKeysets(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "")
	i.start()
	keeper := newAuditor(t, i.node)
	orgs := []uuid.UUID{uuid.Nil}
	i.seal(uuid.Nil, 20)
	for range 2 {
		_, org := i.organisation()
		i.seal(org, 20)
		orgs = append(orgs, org)
	}
	was := i.wrapped()
	for _, step := range []string{
		"BEFORE UPDATE ON keysets WHEN NEW.kek <> OLD.kek",
		"AFTER UPDATE ON keysets WHEN NEW.kek <> OLD.kek",
		"BEFORE INSERT ON audit WHEN NEW.act = 'keys.rewrap' AND NEW.organisation_id = '" + orgs[2].String() + "'",
		"BEFORE INSERT ON audit WHEN NEW.act = 'keys.rewrap' AND NEW.details ? 'files'",
	} {
		i.holdAt(step)
		c := i.begin("keys", "rewrap", "--new")
		i.killHeld(1)
		c.lost(t)
		for _, org := range orgs {
			i.allOpen(org, 20)
		}
		i.start()
		keeper.keep()
	}
	// The last was killed when all was done but its entry.
	kek := i.wrapped()
	if kek == was {
		t.Error("the key-encryption key is the old one")
	}
	i.toldOnce(kek)
	i.say("keys", "rewrap", "--new")
	again := i.wrapped()
	i.toldOnce(again)
	if again == kek {
		t.Error("a new key was asked for, and there is none")
	}
	for _, org := range orgs {
		i.allOpen(org, 20)
	}
	keeper.verify(t)
}

// Killed at the moment when any of its files is put in its place, a change of
// the key-encryption key leaves a directory of keys with which the node
// starts and everything opens.
func TestARewrapIsKilledBetweenItsFiles(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "")
	i.start()
	_, org := i.organisation()
	i.seal(org, 20)
	first := i.wrapped()
	dir := filepath.Join(i.data(), "keys")
	kills := 8
	if testing.Short() {
		kills = 4
	}
	seen := map[string]int{}
	for n := 0; n < kills || len(seen) < 2 && n < 5*kills; n++ {
		kill, stop := afterFiles(t, dir, n%8+1)
		c := i.begin("keys", "rewrap", "--new")
		var last string
		select {
		case last = <-kill:
			i.kill()
			c.lost(t)
			seen[last]++
		case s := <-c.done: // it was quicker, or there were no more files
			i.kill()
			if s.code != 0 {
				t.Errorf("%+v", s)
			}
		}
		stop()
		i.allOpen(org, 20)
		i.start()
		if _, err := os.Stat(filepath.Join(dir, "kek.next")); err == nil {
			i.say("keys", "rewrap", "--new") // goes on with the key that is there
		}
		if kek := i.wrapped(); kek != first { // killed before there was a next key, the first stays
			i.toldOnce(kek)
		}
	}
	i.allOpen(org, 20)
	if len(seen) < 2 {
		t.Errorf("the kills came after %v: this test did not test", seen)
	}
	t.Logf("killed after %v", seen)
}

// afterFiles tells when the nth file of a directory was put in its place, and
// which it was.
func afterFiles(t *testing.T, dir string, nth int) (reached chan string, stop func()) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	reached = make(chan string, 1)
	go func() {
		buffer := make([]byte, 64<<10)
		for count := 0; ; {
			n, err := f.Read(buffer)
			if err != nil {
				return
			}
			for at := 0; at+unix.SizeofInotifyEvent <= n; {
				length := int(buffer[at+12]) | int(buffer[at+13])<<8 // struct inotify_event, len; little endian
				name, _, _ := strings.Cut(string(buffer[at+unix.SizeofInotifyEvent:at+unix.SizeofInotifyEvent+length]), "\x00")
				if count++; count == nth {
					reached <- name
					return
				}
				at += unix.SizeofInotifyEvent + length
			}
		}
	}()
	return reached, func() { _ = f.Close() }
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = crand.Read(b) // never fails (crypto/rand)
	return b
}

// Killed while the keysets move to a key of another provider, the node goes on
// with both, and in the end needs the new one only.
func TestAMoveToAnotherProviderIsKilled(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "")
	i.start()
	keeper := newAuditor(t, i.node)
	_, org := i.organisation()
	i.seal(org, 20)
	i.seal(uuid.Nil, 20)
	if code := i.stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	old, err := os.ReadFile(i.config)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(i.dir, "identity")
	if err := os.WriteFile(secret, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What an operator does with: openssl rand -base64 32 | age -r …
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, identity.Recipient())
	if err == nil {
		_, err = fmt.Fprintln(w, base64.StdEncoding.EncodeToString(randomBytes(32)))
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(i.dir, "kek.age"), sealed.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	moved := fmt.Sprintf("keys:\n  age: {file: %q, recipients: [%s], identity: {file: %q}}\n", filepath.Join(i.dir, "kek.age"), identity.Recipient(), secret)
	kek := filepath.Join(i.data(), "keys", "kek")
	i.write(t, string(old)+moved+fmt.Sprintf("  previous: [{file: %q}]\n", kek))
	i.start()
	for _, step := range []string{
		"BEFORE INSERT ON audit WHEN NEW.act = 'keys.rewrap'",
		"AFTER INSERT ON audit WHEN NEW.act = 'keys.rewrap'",
	} {
		i.holdAt(step)
		c := i.begin("keys", "rewrap")
		i.killHeld(1)
		c.lost(t)
		i.allOpen(org, 20)
		i.allOpen(uuid.Nil, 20)
		i.start()
		keeper.keep()
		if s := i.encryption(); len(s.Warnings) == 0 || !strings.Contains(s.Warnings[0], "still wrapped by the key-encryption key") {
			t.Errorf("a move that is half-way goes without a word: %q", s.Warnings)
		}
	}
	// Random moments, and then to the end.
	for range 2 {
		c := i.begin("keys", "rewrap")
		pass(rand.N(60 * time.Millisecond))
		i.kill()
		<-c.done
		i.start()
		i.allOpen(org, 20)
	}
	i.say("keys", "rewrap")
	i.toldOnce(i.wrapped())
	keeper.verify(t)
	i.stop()
	if err := os.Rename(kek, filepath.Join(i.dir, "escrow")); err != nil {
		t.Fatal(err)
	}
	i.write(t, string(old)+moved)
	i.start()
	i.wrapped()
	i.allOpen(org, 20)
	i.allOpen(uuid.Nil, 20)
}
