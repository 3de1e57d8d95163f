package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func TestAnEntryIsProvenToWhoeverHasTheKey(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	l := openLog(t, options(d, t.TempDir()))
	appendMany(t, d, 300)
	id := act(t, d, uuid.New(), "key.revoke", "abc", map[string]string{"why": "lost"})
	if _, err := l.Prove(t.Context(), id); codeOf(err) != "audit-checkpoint-none" {
		t.Errorf("before anything was signed: %v", err)
	}
	drain(t, l)
	late := act(t, d, uuid.New(), "key.create", "abc", nil)
	if _, err := l.Prove(t.Context(), late); codeOf(err) != "audit-entry-waiting" {
		t.Errorf("before it is in the tree: %v", err)
	}
	if _, err := l.Prove(t.Context(), uuid.New()); codeOf(err) != "audit-entry-unknown" {
		t.Errorf("got %v", err)
	}
	b, err := l.Prove(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	got, c, err := CheckBundle(text, []string{l.log.vkey()})
	if err != nil || got.Proofs[0].Entry.Body != `{"why": "lost"}` || c.Size != 301 {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, changed := range map[string]string{
		"another actor":      strings.Replace(string(text), "local:uid=7", "local:uid=8", 1),
		"another body":       strings.Replace(string(text), "lost", "last", 1),
		"another time":       strings.Replace(string(text), `"at":"2`, `"at":"1`, 1),
		"another leaf":       strings.Replace(string(text), `"leaf":300`, `"leaf":299`, 1),
		"another outcome":    strings.Replace(string(text), `"outcome":"done"`, `"outcome":"denied"`, 1),
		"another checkpoint": strings.Replace(string(text), `\n301\n`, `\n302\n`, 1),
		"a shorter path":     strings.Replace(string(text), `"path":["`+b.Proofs[0].Path[0].String()+`",`, `"path":[`, 1),
		"an unknown field":   strings.Replace(string(text), `{"format"`, `{"more":1,"format"`, 1),
		"another form":       strings.Replace(string(text), ProofFormat, "foundry-audit-proof/2", 1),
		"something behind":   string(text) + "{}",
		"nothing proven":     `{"format":"` + ProofFormat + `","checkpoint":` + string(quote(b.Checkpoint)) + `}`,
	} {
		if changed == string(text) {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, _, err := CheckBundle([]byte(changed), []string{l.log.vkey()}); err == nil {
			t.Errorf("%s: it passed", name)
		}
	}
	if _, _, err := CheckBundle(text, []string{newSigner(l.origin, algEd25519, make([]byte, 32), nil).vkey()}); err == nil {
		t.Error("it passed with another key")
	}
	if _, _, err := CheckBundle(text, nil); codeOf(err) != "audit-key" {
		t.Errorf("without a key: %v", err)
	}
	// An entry that was changed is not proven, and the answer says so.
	if _, err := dbtest.Superuser(t, cfg).Exec(t.Context(), `UPDATE audit SET target = 'x' WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Prove(t.Context(), id); codeOf(err) != "audit-proof-fails" {
		t.Errorf("got %v", err)
	}
}

func quote(s string) []byte { text, _ := json.Marshal(s); return text }

func TestTheTreeIsProvenToGrowOutOfAnEarlierOne(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := openLog(t, options(d, t.TempDir()))
	appendMany(t, d, 280)
	drain(t, l)
	before, _ := l.Checkpoint()
	appendMany(t, d, 40)
	drain(t, l)
	c, path, err := l.ProveConsistency(t.Context(), before.Size)
	if err != nil || tlog.CheckTree(path, c.Size, c.Root, before.Size, before.Root) != nil {
		t.Errorf("%v, %v", path, err)
	}
	for _, size := range []int64{0, -1, 321} {
		if _, _, err := l.ProveConsistency(t.Context(), size); codeOf(err) != "audit-size" {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func TestARowIsProvenInItsBatch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 700).Draw(rt, "rows")
		i := rapid.IntRange(0, n-1).Draw(rt, "row")
		salt := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "salt")
		cells := func(k int) [][]byte { return [][]byte{[]byte(fmt.Sprint(k)), nil, {}} }
		rows := make([]tlog.Hash, n)
		for k := range rows {
			rows[k] = RowHash(RowSalt(salt, "requests", cells(k)), "requests", cells(k))
		}
		root := RowRoot(rows)
		path, err := ProveRow(rows, int64(i))
		if err != nil {
			rt.Fatal(err)
		}
		text, empty := fmt.Sprintf("%x", fmt.Sprint(i)), ""
		row := ProofRow{Table: "requests", Cells: []Cell{{"a", &text, ""}, {"b", nil, ""}, {"c", &empty, ""}}, N: int64(i), Of: int64(n),
			Salt: fmt.Sprintf("%x", RowSalt(salt, "requests", cells(i))), Path: path}
		if err := row.check(root[:]); err != nil {
			rt.Fatal(err)
		}
		for _, change := range []func(r *ProofRow){
			func(r *ProofRow) { r.Table = "refusals" }, func(r *ProofRow) { r.N = int64(n) }, func(r *ProofRow) { r.Cells = r.Cells[:2] },
			func(r *ProofRow) { r.Cells = []Cell{r.Cells[0], r.Cells[2], r.Cells[1]} }, func(r *ProofRow) { r.Salt = "" },
		} {
			changed := row
			change(&changed)
			if changed.check(root[:]) == nil {
				rt.Fatal("a changed row passed")
			}
		}
	})
	if _, err := ProveRow(nil, 0); err == nil {
		t.Error("a row of nothing was proven")
	}
}

func TestPublicKeysAreReadStrictly(t *testing.T) {
	t.Parallel()
	for _, alg := range []byte{algEd25519, algCosignature} {
		s := newSigner("foundry.audit/x", alg, make([]byte, 32), newClock().now)
		v, err := parseVKey(s.vkey())
		if err != nil || v.name != s.name || v.hash != s.hash || v.vkey() != s.vkey() {
			t.Errorf("%+v, %v", v, err)
		}
		sig, err := s.Sign([]byte("text\n"))
		if err != nil || !v.Verify([]byte("text\n"), sig) || v.Verify([]byte("test\n"), sig) || v.Verify([]byte("text\n"), sig[1:]) {
			t.Error("signatures are not told apart")
		}
		for _, bad := range []string{"", "a", "a+b+c", s.vkey() + "A", strings.Replace(s.vkey(), fmt.Sprintf("%08x", s.hash), fmt.Sprintf("%08X", s.hash), 1), strings.Replace(s.vkey(), "+", " +", 1), strings.Replace(s.vkey(), "x+", "y+", 1), s.vkey()[:len(s.vkey())-4]} {
			if _, err := parseVKey(bad); codeOf(err) != "audit-key" {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
}

func FuzzAnyProofIsReadWithoutHarm(f *testing.F) {
	key := newSigner("foundry.audit/x", algEd25519, make([]byte, 32), newClock().now)
	c, _, _ := signCheckpoint("foundry.audit/x", 1, tlog.Hash{}, key, nil)
	f.Add(`{"format":"` + ProofFormat + `","proofs":[{"leaf":0,"entry":{"at":"2026-11-22T12:00:00.000000Z","salt":"00"}}],"checkpoint":` + string(quote(c.Note)) + `}`)
	f.Add(`{"format":"` + ProofFormat + `","proofs":[{"leaf":0,"batch":{},"row":{"cells":[{"hex":null}],"salt":"00"}}],"checkpoint":` + string(quote(c.Note)) + `}`)
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, err := CheckBundle([]byte(text), []string{key.vkey()}); err == nil {
			t.Error("what is in no tree passed")
		}
	})
}
