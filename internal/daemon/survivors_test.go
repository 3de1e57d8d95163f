package daemon

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/fleet/apart"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
)

func aKit() kit.Content {
	return kit.Content{
		Version: kit.ContentVersion, Made: time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC), PostgreSQL: 15, Packages: []string{"restic"},
		Node: kit.Node{Number: 7, Name: "node1", DataDir: "/var/lib/foundry"},
		KEKs: []kit.KEK{{Provider: "file", Fingerprint: "ab12", Key: []byte("the kek")}},
		Files: []kit.File{
			{Path: "keys/aead.keyset", Body: []byte("keyset")}, {Path: "keys/kek.fingerprint", Body: []byte("print")}, {Path: "ca/ca.pem", Body: []byte("authority")},
			{Path: "ca/ca.key.sealed", Body: []byte("its key")}, {Path: "audit/log.key", Body: []byte("log")}, {Path: "audit/checkpoints.jsonl", Body: []byte("much")},
			{Path: "evidence/signer.sealed", Body: []byte("signer")}, {Path: "node.json", Body: []byte(`{"number":7,"boot":3}`)},
			{Path: "backup/passphrases.sealed", Body: []byte("sealed words")}, {Path: "breakglass/state.json", Body: []byte("glass")},
		},
		Settings: "mode: production\n", Secrets: []kit.Secret{{Field: "providers[0].key", Value: []byte("sk-1\n")}},
		Passphrases: map[string][]byte{"vault pgbackrest": []byte("words")},
		Targets:     []kit.Target{{Config: target.Config{Name: "vault", Kind: "s3", Supplier: "second", Account: "backups", S3: &target.S3Config{Endpoint: "s3.example", Bucket: "b"}}}},
		Audit:       kit.Audit{Checkpoint: "changes every second"},
	}
}

func TestThePartsOfAKitAreTheKitAgainWithoutWhatChangesByItself(t *testing.T) {
	c := aKit()
	parts, err := splitKit(c)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, survivor.Required) {
		t.Errorf("%v, want %v", names, survivor.Required)
	}
	got, err := joinKit(parts)
	if err != nil {
		t.Fatal(err)
	}
	want := c
	want.Made, want.Audit = time.Time{}, kit.Audit{}
	want.Files = slices.DeleteFunc(slices.Clone(c.Files), func(f kit.File) bool {
		return slices.Contains([]string{"node.json", "audit/checkpoints.jsonl", "breakglass/state.json"}, f.Path)
	})
	byPath := func(a, b kit.File) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) }
	slices.SortFunc(want.Files, byPath)
	slices.SortFunc(got.Files, byPath)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	later := aKit()
	later.Made, later.Audit.Checkpoint = later.Made.Add(time.Hour), "another"
	again, err := splitKit(later)
	if err != nil || !reflect.DeepEqual(again, parts) {
		t.Errorf("an hour later the parts are others (%v)", err)
	}
	c.Targets, c.Passphrases = nil, nil
	if fewer, _ := splitKit(c); len(fewer) != len(parts)-1 {
		t.Errorf("a node without backups leaves %d parts", len(fewer))
	}
}

func TestTwoFleetsWithOneProviderKeyOrOneBucketShareIt(t *testing.T) {
	shared := func(change func(*kit.Content)) []apart.Shared {
		a, b := aKit(), aKit()
		b.KEKs[0].Key, b.Files[2].Body, b.Secrets[0].Value = []byte("another kek"), []byte("another authority"), []byte("sk-2")
		b.Passphrases = map[string][]byte{"vault pgbackrest": []byte("others")}
		b.Targets[0].Config.Account, b.Targets[0].Config.S3 = "others", &target.S3Config{Endpoint: "s3.example", Bucket: "others"}
		change(&b)
		x, err := apart.Make("main", "node1", kitThings(a), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		y, err := apart.Make("night", "node1", kitThings(b), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		out, err := apart.Compare(x, y)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for kind, change := range map[string]func(*kit.Content){
		"":              func(*kit.Content) {},
		apart.KEK:       func(c *kit.Content) { c.KEKs[0].Key = []byte("the kek") },
		apart.Authority: func(c *kit.Content) { c.Files[2].Body = []byte("authority") },
		apart.Secret:    func(c *kit.Content) { c.Secrets[0].Value = []byte("sk-1") },
		apart.Backup:    func(c *kit.Content) { c.Passphrases["vault pgbackrest"] = []byte("words") },
		apart.Target:    func(c *kit.Content) { c.Targets[0].Config.S3.Bucket = "b" },
	} {
		got := shared(change)
		if kind == "" && len(got) > 0 || kind != "" && (len(got) != 1 || got[0].Kind != kind) {
			t.Errorf("%q: %+v", kind, got)
		}
	}
}
