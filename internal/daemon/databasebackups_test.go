package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestADatabaseRunsOnlyWhereItIsBackedUp(t *testing.T) {
	for _, roles := range [][]member.Role{{member.Database}, {member.Fleet, member.Database}} {
		if _, err := Serve(t.Context(), Options{Config: Config{DataDir: t.TempDir()}}, roles); problem.From(err).Code != "role-database-alone" {
			t.Errorf("%v: %v", roles, err)
		}
	}
}

func TestAPlaceIsTheSameWhoeverNamesIt(t *testing.T) {
	bucket := func(endpoint, name string) target.Config {
		return target.Config{Kind: target.S3Bucket, Path: "foundry", S3: &target.S3Config{Endpoint: endpoint, Bucket: name}}
	}
	for name, c := range map[string]struct {
		a, b target.Config
		same bool
	}{
		"a directory":          {target.Config{Name: "x", Kind: target.Directory, Path: "/mnt/a/"}, target.Config{Name: "y", Kind: target.Directory, Path: "/mnt/a"}, true},
		"another directory":    {target.Config{Kind: target.Directory, Path: "/mnt/a"}, target.Config{Kind: target.Directory, Path: "/mnt/b"}, false},
		"a bucket":             {bucket("https://s3.example/", "b"), bucket("https://s3.example", "b"), true},
		"another bucket":       {bucket("https://s3.example", "b"), bucket("https://s3.example", "c"), false},
		"another supplier's":   {bucket("https://s3.example", "b"), bucket("https://s3.example.org", "b"), false},
		"a bucket, and a path": {bucket("https://s3.example", "b"), target.Config{Kind: target.Directory, Path: "foundry"}, false},
	} {
		if samePlace(c.a, c.b) != c.same {
			t.Errorf("%s: %v", name, !c.same)
		}
	}
}

// Whoever takes over goes on in the repository that it restored from: it takes
// the passphrase of the node that made it, for good.
func TestThePassphraseOfARepositoryIsTakenOverWithIt(t *testing.T) {
	lost, own := t.TempDir(), t.TempDir()
	ring, err := OpenKeyring(Config{DataDir: own}, nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func(dir string) *backup.Passphrases {
		t.Helper()
		p, err := backup.OpenPassphrases(dir, ring.Seal, ring.Open)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	at := target.Target{Config: target.Config{Name: "vault"}}
	made, err := open(lost).For("pgbackrest")(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	p := open(own)
	before, err := p.For("pgbackrest")(t.Context(), at)
	if err != nil || before == made {
		t.Fatalf("%v", err)
	}
	if err := p.Adopt(open(lost), "attic", "vault", "pgbackrest"); problem.From(err).Code != "backup-passphrase-unknown" {
		t.Errorf("one that nobody left: %v", err)
	}
	for range 2 { // again after a crash
		if err := p.Adopt(open(lost), "vault", "vault", "pgbackrest"); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*backup.Passphrases{p, open(own)} {
		if got, err := p.For("pgbackrest")(t.Context(), at); err != nil || got != made {
			t.Errorf("%v", err)
		}
		if string(p.All()["vault/pgbackrest.before"]) != before {
			t.Error("the one before is gone")
		}
	}
	if err := os.WriteFile(filepath.Join(lost, "foundry.yaml"), []byte("backup: {targets: [{name: vault, kind: directory, path: /mnt/vault}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, found := restoredTarget(lost, "vault"); !found || c.Path != "/mnt/vault" {
		t.Errorf("%+v", c)
	}
	if _, found := restoredTarget(own, "vault"); found {
		t.Error("a target of no settings was found")
	}
}
