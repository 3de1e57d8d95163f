package keys

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
)

var tester = principal.Node("test")

func (w *world) rotate(v *Vault, org uuid.UUID) Progress {
	w.t.Helper()
	p, err := v.Rotate(context.Background(), tester, org)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// keyStatuses is how many keys of an organisation stand in each status.
func (w *world) keyStatuses(org uuid.UUID) map[string]int {
	w.t.Helper()
	all, err := w.vault.readKeys(context.Background(), `k.organisation_id = '`+org.String()+`'`)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]int{}
	for _, k := range all {
		out[k.Status]++
	}
	return out
}

func TestARotationReEncryptsEveryValueOfItsOrganisationOnly(t *testing.T) {
	w := newWorld(t)
	a, b := uuid.New(), uuid.New()
	for i := range 250 { // more than two batches
		w.note(w.vault, a, "ward", fmt.Sprint(i), fmt.Sprint("note ", i))
	}
	w.note(w.vault, b, "ward", "1", "of another")
	before, err := w.vault.load(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := w.rotate(w.vault, a)
	if p.Done != 250 || p.Total != 250 || p.Unreadable != 0 || len(p.Disabled) != 1 {
		t.Fatalf("%+v", p)
	}
	for i := range 250 {
		w.reads(w.newVaultOnce(), a, "ward", fmt.Sprint(i), fmt.Sprint("note ", i))
	}
	if got := w.keyStatuses(a); got["primary"] != 1 || got["disabled"] != 1 {
		t.Errorf("%v", got)
	}
	after, err := w.newVault(nil).load(t.Context(), b, nil)
	if err != nil || after.primary != before.primary {
		t.Errorf("another organisation's key changed: %v", err)
	}
	w.reads(w.vault, b, "ward", "1", "of another")
	if n := w.audit.count("keys.rotate"); n != 1 {
		t.Errorf("%d entries of the rotation in the audit log", n)
	}
}

var once sync.Map

// newVaultOnce is one other node for a whole test.
func (w *world) newVaultOnce() *Vault {
	if v, ok := once.Load(w); ok {
		return v.(*Vault)
	}
	v := w.newVault(nil)
	once.Store(w, v)
	return v
}

// Rows of any organisation that are sealed for the installation are rotated
// with the installation's keyset.
func TestTheInstallationsValuesLieInRowsOfOrganisations(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	ids := map[uuid.UUID]uuid.UUID{}
	for range 3 {
		org, id := uuid.New(), uuid.New()
		ids[org] = id
		sealed, err := w.vault.Seal(ctx, uuid.Nil, Place{"secrets", "seed", id.String()}, []byte("seed"))
		if err == nil {
			err = w.db.Org(ctx, org, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO secrets VALUES ($1, $2, $3)`, org, id, sealed)
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if p := w.rotate(w.vault, uuid.Nil); p.Done != 3 {
		t.Fatalf("%+v", p)
	}
	for org, id := range ids {
		var sealed []byte
		if err := w.db.Org(ctx, org, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT seed FROM secrets WHERE id = $1`, id).Scan(&sealed)
		}); err != nil {
			t.Fatal(err)
		}
		if got, err := w.vault.Open(ctx, uuid.Nil, Place{"secrets", "seed", id.String()}, sealed); err != nil || string(got) != "seed" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// Whoever changes a row while it is being re-encrypted does not lose the change.
func TestARowThatChangesMeanwhileIsNotLost(t *testing.T) {
	w := newWorld(t)
	org := uuid.New()
	for i := range 20 {
		w.note(w.vault, org, "ward", fmt.Sprint(i), "before")
	}
	other := w.newVault(nil) // seals with the older key until it hears of the new one
	if _, err := other.load(t.Context(), org, nil); err != nil {
		t.Fatal(err)
	}
	wrote := false
	v := w.newVault(func(o *VaultOptions) {
		o.Step = func(step string) {
			if step == "rotate:added" && !wrote {
				wrote = true
				w.note(other, org, "ward", "3", "after")
				w.note(other, org, "ward", "21", "new")
			}
		}
	})
	// The first pass reads its snapshot before these are written.
	raced := false
	v.o.Step = func(step string) {
		if step == "rotate:batch" && !raced {
			raced = true // inside the batch's transaction, before it commits: rows after it in the stream
			for i := 20; i < 22; i++ {
				w.note(other, org, "late", fmt.Sprint(i), "late")
			}
		}
	}
	p := w.rotate(v, org)
	if p.Unreadable != 0 || len(p.Disabled) != 1 {
		t.Fatalf("%+v", p)
	}
	fresh := w.newVault(nil)
	for i := 20; i < 22; i++ {
		w.reads(fresh, org, "late", fmt.Sprint(i), "late")
	}
	for i := range 20 {
		w.reads(fresh, org, "ward", fmt.Sprint(i), "before")
	}
}

// The update compares with what was read: without it, this loses a change.
func TestReEncryptionComparesBeforeItSets(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	org := uuid.New()
	w.note(w.vault, org, "ward", "1", "before")
	var read []byte
	if err := w.db.Org(ctx, org, func(tx pgx.Tx) error { return tx.QueryRow(ctx, `SELECT body FROM notes`).Scan(&read) }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.vault.addKey(ctx, tester, org); err != nil {
		t.Fatal(err)
	}
	w.note(w.vault, org, "ward", "1", "after") // somebody writes between the read and the update
	j := &job{}
	n, err := w.vault.reencrypt(ctx, notes, org, []string{"text", "bigint"}, []sealedRow{{org, read, []string{"ward", "1"}}}, j)
	if err != nil || n != 0 || j.p.Raced != 1 {
		t.Fatalf("%d changed, %+v, %v", n, j.p, err)
	}
	w.reads(w.vault, org, "ward", "1", "after")
}

func TestAValueThatDoesNotOpenKeepsItsKey(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	org := uuid.New()
	w.note(w.vault, org, "ward", "1", "good")
	w.note(w.vault, org, "ward", "2", "bad")
	if _, err := w.db.Pool(db.Migrator).Exec(ctx, `UPDATE notes SET body = set_byte(body, 20, 255 - get_byte(body, 20)) WHERE id = 2`); err != nil {
		t.Fatal(err)
	}
	p, err := w.vault.Rotate(ctx, tester, org)
	wantCode(t, err, "rotation-failed")
	if p.Unreadable != 1 || p.Done != 1 || !strings.Contains(p.Error, "do not open") {
		t.Errorf("%+v", p)
	}
	w.reads(w.newVault(nil), org, "ward", "1", "good")
	if got := w.keyStatuses(org); got["enabled"] != 1 || got["disabled"] != 0 {
		t.Errorf("the key was not kept: %v", got)
	}
}

func TestAKeyIsDestroyedOnlyWhenNothingRefersToIt(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	org := uuid.New()
	w.note(w.vault, org, "ward", "1", "text")
	late, err := w.vault.Seal(ctx, org, noteAt("ward", "2"), []byte("late"))
	if err != nil {
		t.Fatal(err)
	}
	w.rotate(w.vault, org)
	now := time.Now()
	v := w.newVault(func(o *VaultOptions) { o.Clock = func() time.Time { return now } })
	if err := v.DestroyDue(ctx); err != nil {
		t.Fatal(err)
	}
	if got := w.keyStatuses(org); got["disabled"] != 1 {
		t.Fatalf("it was destroyed too early: %v", got)
	}
	// A node that had not heard stores a value after all.
	if err := w.db.Org(ctx, org, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO notes VALUES ($1, 'ward', 2, $2)`, org, late)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_, err = w.read(v, org, "ward", "2")
	wantCode(t, err, "key-disabled")
	now = now.Add(48 * time.Hour)
	if err := v.DestroyDue(ctx); err != nil {
		t.Fatal(err)
	}
	if got := w.keyStatuses(org); got["enabled"] != 1 || got["destroyed"] != 0 {
		t.Fatalf("a key that a value needs: %v", got)
	}
	if err := v.ResumeRotations(ctx); err != nil {
		t.Fatal(err)
	}
	w.reads(w.newVault(nil), org, "ward", "2", "late")
	now = time.Now().Add(48 * time.Hour)
	if err := v.DestroyDue(ctx); err != nil {
		t.Fatal(err)
	}
	if got := w.keyStatuses(org); got["destroyed"] != 1 || got["primary"] != 1 || len(got) != 2 {
		t.Fatalf("%v", got)
	}
	_, err = w.newVault(nil).Open(ctx, org, noteAt("ward", "2"), late)
	wantCode(t, err, "key-destroyed")
	w.reads(w.newVault(nil), org, "ward", "1", "text")
}

func TestAKeyThatSealedFilesIsKept(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	org, at := uuid.New(), Place{"exports", "file", "1"}
	var sealed strings.Builder
	f, err := w.vault.SealFile(ctx, org, at, &sealed)
	if err == nil {
		_, err = f.Write([]byte("body"))
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	w.rotate(w.vault, org)
	if got := w.keyStatuses(org); got["kept"] != 1 || got["disabled"] != 0 {
		t.Fatalf("%v", got)
	}
	v := w.newVault(nil)
	if _, err := v.OpenFile(ctx, org, at, strings.NewReader(sealed.String())); err != nil {
		t.Error(err)
	}
	var fresh strings.Builder
	changed, err := v.ResealFile(ctx, org, at, strings.NewReader(sealed.String()), &fresh)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	if s := sealed.String(); len(s) != fresh.Len() || !strings.HasSuffix(fresh.String(), s[len(s)-40:]) {
		t.Error("the body was written anew")
	}
	w.rotate(v, org) // a kept key is no unfinished rotation
	if got := w.keyStatuses(org); got["kept"] != 2 {
		t.Errorf("%v", got)
	}
}

// Killed at any step, every value opens, and the next rotation ends the one
// that was interrupted, without a third key.
func TestARotationThatIsKilledGoesOn(t *testing.T) {
	w := newWorld(t)
	for _, step := range []string{"rotate:add", "rotate:added", "rotate:batch", "rotate:committed", "rotate:reencrypted", "rotate:disabled"} {
		t.Run(step, func(t *testing.T) {
			org := uuid.New()
			for i := range 3 {
				w.note(w.vault, org, "ward", fmt.Sprint(i), "text")
			}
			w.killAt("rotate", step, org)
			v := w.newVault(nil)
			for i := range 3 {
				w.reads(v, org, "ward", fmt.Sprint(i), "text")
			}
			switch step {
			case "rotate:add": // before the commit: nothing has happened
				if got := w.keyStatuses(org); got["primary"] != 1 || len(got) != 1 {
					t.Fatalf("half a key: %v", got)
				}
				return
			case "rotate:disabled":
			default:
				if err := v.ResumeRotations(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := w.keyStatuses(org); got["primary"] != 1 || got["disabled"] != 1 || got["enabled"] != 0 {
				t.Fatalf("after going on: %v", got)
			}
			for i := range 3 {
				w.reads(w.newVault(nil), org, "ward", fmt.Sprint(i), "text")
			}
			all, err := v.readKeys(t.Context(), `k.status = 'primary' AND k.organisation_id = '`+org.String()+`'`)
			if err != nil || len(all) != 1 || all[0].Values < 3 {
				t.Errorf("the new key sealed three values, its count says otherwise: %+v, %v", all, err)
			}
		})
	}
}

func TestTwoNodesThatRotateAtOnceMakeOneKey(t *testing.T) {
	w := newWorld(t)
	org := uuid.New()
	for i := range 150 {
		w.note(w.vault, org, "ward", fmt.Sprint(i), "text")
	}
	var all sync.WaitGroup
	for range 2 {
		v := w.newVault(nil)
		all.Go(func() {
			if _, err := v.Rotate(t.Context(), tester, org); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := w.keyStatuses(org); got["primary"] != 1 || got["enabled"] != 0 || got["disabled"] < 1 {
		t.Errorf("%v", got)
	}
	v := w.newVault(nil)
	for i := range 150 {
		w.reads(v, org, "ward", fmt.Sprint(i), "text")
	}
}

func TestANodeHearsOfANewKey(t *testing.T) {
	w := newWorld(t)
	org := uuid.New()
	w.note(w.vault, org, "ward", "1", "text")
	other := w.newVault(nil)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go other.Run(ctx)
	w.reads(other, org, "ward", "1", "text")
	was := (*other.hot.Load())[org]
	w.rotate(w.vault, org)
	for end := time.Now().Add(10 * time.Second); (*other.hot.Load())[org] == was; {
		if time.Now().After(end) {
			t.Fatal("the older keyset is still in use")
		}
		<-time.After(10 * time.Millisecond)
	}
	w.reads(other, org, "ward", "1", "text")
}

func TestTheKeyringInFilesGetsANewKeyAndKeepsTheOlder(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	ring := w.vault.o.Keyring
	old, err := ring.Seal([]byte("segment"), nil)
	if err != nil {
		t.Fatal(err)
	}
	mac, _ := ring.MACKey("token")
	key, err := w.vault.RotateFiles(ctx, tester)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*Keyring{ring, w.newVault(nil).o.Keyring} {
		if got, err := k.Open(old, nil); err != nil || string(got) != "segment" {
			t.Errorf("%q, %v", got, err)
		}
		sealed, err := k.Seal(nil, nil)
		if id, _ := keyID(sealed); err != nil || keyName(id) != key || k.KeyIDs()[0] != key || len(k.KeyIDs()) != 2 {
			t.Errorf("sealed with %08x, %v; want %s", id, err, key)
		}
		if again, _ := k.MACKey("token"); string(again) != string(mac) {
			t.Error("the tags of API keys would no longer fit")
		}
	}
}

func TestARotationOfTheFilesThatIsKilledLeavesThemReadable(t *testing.T) {
	for _, step := range []string{"rotate:file", "rotate:filed"} {
		w := newWorld(t)
		old, err := w.vault.o.Keyring.Seal([]byte("segment"), nil)
		if err != nil {
			t.Fatal(err)
		}
		w.killAt("rotate-files", step, uuid.Nil)
		if got, err := w.newVault(nil).o.Keyring.Open(old, nil); err != nil || string(got) != "segment" {
			t.Errorf("%s: %q, %v", step, got, err)
		}
	}
}

// A full disk leaves the keys as they were, with an error that says so.
func TestAFullDiskStopsARotationOfTheFilesAndLosesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	w, ctx := newWorld(t), t.Context()
	small := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("no small disk: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", small).Run() })
	w.dir = filepath.Join(small, "keys")
	v := w.newVault(nil)
	old, err := v.o.Keyring.Seal([]byte("segment"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(small, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	_ = f.Close()
	if _, err := v.RotateFiles(ctx, tester); err == nil {
		t.Fatal("it found room")
	} else {
		wantCode(t, err, "key-file")
	}
	if _, err := v.Rewrap(ctx, tester, true); err == nil {
		t.Fatal("it found room")
	}
	if got, err := v.o.Keyring.Open(old, nil); err != nil || string(got) != "segment" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := w.newVault(nil).o.Keyring.Open(old, nil); err != nil || string(got) != "segment" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.RotateFiles(ctx, tester); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
