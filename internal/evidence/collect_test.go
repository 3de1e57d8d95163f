package evidence

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/bcrypt"

	"github.com/missionopsai/foundry/internal/db/dbtest"
)

const hash10 = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"

func TestTheHashControlSeesEveryRowAndEveryColumn(t *testing.T) {
	cfg := dbtest.Config(t)
	d, su := dbtest.Open(t, cfg), dbtest.Superuser(t, cfg)
	run := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := su.Exec(t.Context(), s); err != nil {
				t.Fatal(s, err)
			}
		}
	}
	// Only what this test makes counts: the real list is the daemon's.
	var others []OtherColumn
	err := d.Read(t.Context(), func(tx pgx.Tx) error {
		found, err := suspiciousColumns(t.Context(), tx)
		for _, f := range found {
			if f[0] != "api_keys" {
				others = append(others, OtherColumn{f[0], f[1], "not of this test"})
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	hashes := []HashColumn{{Table: "api_keys", Column: "secret_hash", MinCost: 10}}
	check := Hashes(d, hashes, others)
	if got, found := look(t, check); got != Pass {
		t.Fatalf("empty: %s %+v", got, found)
	}
	org := uuid.New()
	run("INSERT INTO organisations (id, name) VALUES ('"+org.String()+"', 'st-mary')",
		"ALTER TABLE api_keys DROP CONSTRAINT api_keys_secret_hash_check",
		"INSERT INTO api_keys (id, organisation_id, name, secret_hash) VALUES ('a', '"+org.String()+"', 'a', '"+hash10+"')")
	if got, found := look(t, check); got != Pass || !strings.Contains(found[1].Reason, "All 1 rows") {
		t.Errorf("one good row: %s %+v", got, found)
	}
	cheap, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"plaintext": "hunter2", "SHA-256": strings.Repeat("ab", 32), "cheap bcrypt": string(cheap), "a truncated hash": hash10[:40], "bcrypt inside something else": "x" + hash10, "nothing": ""} {
		run("UPDATE api_keys SET secret_hash = '" + value + "'")
		if got, found := look(t, check); got != Fail {
			t.Errorf("%s: %s %+v", name, got, found)
		}
	}
	run("UPDATE api_keys SET secret_hash = '" + hash10 + "'")
	for _, column := range []string{"wifi_password text", "\"apiKey\" text", "session_token bytea", "recovery jsonb", "otp text[]"} {
		run("CREATE TABLE slipped_in (" + column + ")")
		if got, found := look(t, check); got != Fail || !strings.Contains(found[0].Reason, "slipped_in") {
			t.Errorf("an unlisted column %s: %s %+v", column, got, found)
		}
		run("DROP TABLE slipped_in")
	}
	gone := Hashes(d, append(hashes, HashColumn{Table: "people", Column: "pin_hash", MinCost: 12}), others)
	if got, _ := look(t, gone); got != Fail {
		t.Error("a listed column that does not exist was not noticed")
	}
}

func TestTheCanaryControlFindsACredentialWhereverItWasWritten(t *testing.T) {
	cfg := dbtest.Config(t)
	d, su := dbtest.Open(t, cfg), dbtest.Superuser(t, cfg)
	if _, err := su.Exec(t.Context(), "CREATE TABLE leak (t text, j jsonb, b bytea, a text[]); ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO foundry_reader; GRANT SELECT ON leak TO foundry_reader"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "postgres.log")
	var sink bytes.Buffer
	watch := WatchLog(slog.NewTextHandler(&sink, &slog.HandlerOptions{Level: slog.LevelWarn}))
	log := slog.New(watch)
	write := func(column, value string, args ...any) func(string) error {
		return func(token string) error {
			var v any = token
			switch value {
			case "json":
				v = map[string]any{"deep": []string{token}}
			case "bytes":
				v = []byte("xx" + token)
			case "base64":
				v = base64.StdEncoding.EncodeToString([]byte("Bearer " + token + ":"))
			case "hex":
				v = hex.EncodeToString([]byte(token))
			case "list":
				v = []string{"a", token}
			}
			_, err := su.Exec(t.Context(), "INSERT INTO leak ("+column+") VALUES ($1)", v)
			return err
		}
	}
	for _, tc := range []struct {
		name string
		leak func(token string) error
		want Result
	}{
		{"kept nowhere", func(string) error { return nil }, Pass},
		{"in a text", write("t", ""), Fail},
		{"in base64", write("t", "base64"), Fail},
		{"in hexadecimal", write("t", "hex"), Fail},
		{"deep in JSON", write("j", "json"), Fail},
		{"in bytes", write("b", "bytes"), Fail},
		{"in a list", write("a", "list"), Fail},
		{"in a message", func(s string) error { log.Warn("refused " + s); return nil }, Fail},
		{"in an attribute", func(s string) error { log.Warn("refused", "token", s); return nil }, Fail},
		{"in a group", func(s string) error { log.Warn("refused", slog.Group("g", "token", []byte(s))); return nil }, Fail},
		{"in a logger's own attribute", func(s string) error { log.With("token", s).Warn("refused"); return nil }, Fail},
		{"below the log's level", func(s string) error { log.Debug("refused", "token", s); return nil }, Fail},
		{"in a file", func(s string) error {
			return os.WriteFile(file, append(bytes.Repeat([]byte("x"), 1<<20-3), s...), 0o600)
		}, Fail},
		{"not shown at all", func(string) error { return errors.New("the node does not answer") }, Inconclusive},
	} {
		if _, err := su.Exec(t.Context(), "TRUNCATE leak"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		got, found := look(t, Canary(CanaryOptions{DB: d, Log: watch, Files: func() []string { return []string{file} },
			Present: func(_ context.Context, token string) error { return tc.leak(token) }}))
		if got != tc.want {
			t.Errorf("%s: %s, want %s: %+v", tc.name, got, tc.want, found)
		}
		for _, f := range found {
			if strings.Contains(f.Reason+strings.Join(f.Covered, "")+string(f.Raw), "canary"+"A") {
				t.Errorf("%s: the evidence itself tells the canary", tc.name)
			}
		}
	}
	if strings.Contains(sink.String(), "DEBUG") {
		t.Error("watching made the log more talkative")
	}
	if got, _ := look(t, Canary(CanaryOptions{DB: d, Present: func(context.Context, string) error { return nil }})); got != Inconclusive {
		t.Errorf("with a log that nobody watches: %s", got)
	}
	if _, err := su.Exec(t.Context(), "INSERT INTO leak (t) VALUES ('the genuine secret of the first key')"); err != nil {
		t.Fatal(err)
	}
	if got, _ := look(t, Canary(CanaryOptions{DB: d, Log: watch, Present: func(context.Context, string) error { return nil }, Issued: func() []string { return []string{"genuine secret of"} }})); got != Fail {
		t.Errorf("a genuine credential in plaintext: %s", got)
	}
}

func TestKeyMaterialBesideTheDataFails(t *testing.T) {
	data := t.TempDir()
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xA7, 0x13}, 16))
	raw, _ := base64.StdEncoding.DecodeString(key)
	other := "/dev/shm" // another volume than the test's directory, where there is one
	elsewhere, err := os.MkdirTemp(other, "foundry-kek-")
	if err != nil {
		t.Skip("no second volume")
	}
	t.Cleanup(func() { os.RemoveAll(elsewhere) })
	kek := filepath.Join(elsewhere, "kek")
	put := func(path string, body []byte, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	put(kek, []byte(key+"\n"), 0o600)
	m := Material{KEK: kek, Data: map[string]string{"data": data}}
	check := func() (Result, []Finding) {
		return look(t, Apart(func() (Material, error) { return m, nil }))
	}
	if got, found := check(); got != Pass {
		t.Fatalf("apart: %s %+v", got, found)
	}
	unseen := m
	unseen.Unseen = "it is a credential."
	// What can be seen passes, and says what cannot; a person answers for that.
	if got, found := look(t, Apart(func() (Material, error) { return unseen, nil })); got != Pass || !slices.Contains(found[0].NotCovered, unseen.Unseen) || !strings.Contains(found[0].Reason, "O-07.credential") {
		t.Errorf("a key whose origin cannot be seen: %s %+v", got, found)
	}
	listed := func(w Wiring) bool {
		return slices.ContainsFunc(Catalogue(w), func(c Control) bool { return c.ID == "O-07.credential" && c.Attested() })
	}
	if !listed(Wiring{Credential: true}) || listed(Wiring{}) {
		t.Error("an owner must answer for a systemd credential, and for nothing else")
	}
	former := filepath.Join(data, "kek.retired-1")
	put(former, []byte("another key"), 0o600)
	m.Former = []string{former, filepath.Join(data, "gone")}
	if got, found := check(); got != Fail || len(found) != 3 {
		t.Errorf("a former key among the data: %s %+v", got, found)
	}
	os.Remove(former)
	m.Former = nil
	identity := filepath.Join(filepath.Dir(kek), "identity")
	put(identity, []byte("# created: now\nAGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQ\n"), 0o600)
	onlyAge := Material{Name: "age identity", KEK: identity, Data: m.Data}
	put(filepath.Join(data, "note"), []byte("x AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQ x"), 0o600)
	got, found := look(t, Apart(func() (Material, error) { return onlyAge, nil }))
	if got != Fail || strings.Contains(found[1].Reason, "SECRET") {
		t.Errorf("an identity without the comments around it: %s %+v", got, found)
	}
	os.Remove(filepath.Join(data, "note"))
	for name, body := range map[string][]byte{"a copy": []byte(key), "a copy in a configuration": []byte("kek: " + key + "\n"), "the bytes": append([]byte("xx"), raw...)} {
		copied := filepath.Join(data, "backup", "config.old")
		put(copied, body, 0o600)
		if got, found := check(); got != Fail || strings.Contains(found[1].Reason, key) {
			t.Errorf("%s: %s %+v", name, got, found)
		}
		os.Remove(copied)
	}
	put(kek, []byte(key), 0o644)
	if got, _ := check(); got != Fail {
		t.Error("others can read the key, and it passes")
	}
	inside := filepath.Join(data, "keys", "kek")
	put(inside, []byte(key), 0o600)
	m.KEK = inside
	if got, found := check(); got != Fail {
		t.Errorf("on the data's volume: %s %+v", got, found)
	}
	m = Material{Place: "a transit service"}
	if got, _ := check(); got != Inconclusive {
		t.Errorf("a key that cannot be seen: %s", got)
	}
	m = Material{KEK: filepath.Join(data, "missing"), Data: map[string]string{"data": data}}
	if got, _ := check(); got != Inconclusive {
		t.Errorf("a missing key: %s", got)
	}
}

func TestProbesThatAreLetInFail(t *testing.T) {
	probe := func(status int, err error) []Probe {
		return []Probe{{Name: "p", Want: []int{401, 403}, Do: func(context.Context) (int, error) { return status, err }}}
	}
	for _, tc := range []struct {
		probes []Probe
		want   Result
	}{{probe(403, nil), Pass}, {probe(401, nil), Pass}, {probe(200, nil), Fail}, {probe(404, nil), Fail}, {probe(500, nil), Fail}, {probe(0, errors.New("away")), Inconclusive}, {nil, Inconclusive}} {
		if got, found := look(t, Denials(func() []Probe { return tc.probes })); got != tc.want {
			t.Errorf("%s, want %s: %+v", got, tc.want, found)
		}
	}
}

func TestARouteToADisallowedProviderFails(t *testing.T) {
	for _, tc := range []struct {
		routes []Route
		err    error
		want   Result
	}{
		{[]Route{{Name: "a", Forbidden: true, Refused: true}, {Name: "own"}}, nil, Pass},
		{[]Route{{Name: "a", Forbidden: true, Refused: true}, {Name: "b", Forbidden: true}}, nil, Fail},
		{[]Route{{Name: "own"}}, nil, Inconclusive},
		{nil, nil, Inconclusive},
		{nil, errors.New("away"), Inconclusive},
	} {
		if got, found := look(t, Disallowed(func(context.Context) ([]Route, error) { return tc.routes, tc.err })); got != tc.want {
			t.Errorf("%s, want %s: %+v", got, tc.want, found)
		}
	}
}

func TestASyntheticAccessMustBeThereAndProven(t *testing.T) {
	yes := func(context.Context, string) (bool, error) { return true, nil }
	no := func(context.Context, string) (bool, error) { return false, nil }
	broken := func(context.Context, string) (bool, error) { return false, errors.New("the proof does not hold") }
	act := func(context.Context) (string, error) { return "x", nil }
	for name, tc := range map[string]struct {
		o    SyntheticOptions
		want Result
	}{
		"there and proven":     {SyntheticOptions{Act: act, Find: yes, Prove: yes}, Pass},
		"not there":            {SyntheticOptions{Act: act, Find: no, Prove: yes}, Fail},
		"there, no proof":      {SyntheticOptions{Act: act, Find: yes, Prove: no}, Fail},
		"there, a false proof": {SyntheticOptions{Act: act, Find: yes, Prove: broken}, Fail},
		"proofs not built in":  {SyntheticOptions{Act: act, Find: yes}, Inconclusive},
		"no access was made":   {SyntheticOptions{Act: func(context.Context) (string, error) { return "", errors.New("x") }, Find: yes, Prove: yes}, Inconclusive},
	} {
		tc.o.Limit = 50 * time.Millisecond
		if got, found := look(t, SyntheticAccess(tc.o)); got != tc.want {
			t.Errorf("%s: %s, want %s: %+v", name, got, tc.want, found)
		}
	}
}
