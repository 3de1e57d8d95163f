package backup

import (
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/keys"
)

// What is sealed in a copy opens with the node's keys, does not with others,
// and says nothing where there is nothing.
func TestSamplesOfWhatIsSealedAreOpened(t *testing.T) {
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	ring := func() *keys.Keyring {
		r, err := keys.Open(keys.Options{Dir: filepath.Join(t.TempDir(), "keys")})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	own := ring()
	column := keys.Column{Table: "keysets_sample", Column: "sealed", Keys: []string{"id"}, Installation: true}
	v := keys.NewVault(keys.VaultOptions{DB: d, Keyring: own, Columns: []keys.Column{column}, Audit: audit.Append, Deny: audit.Deny})
	judged := func(v *keys.Vault, want scratch.Outcome) {
		t.Helper()
		// A backup from before an update lacks what the update brought.
		later := []keys.Column{{Table: "of_a_later_release", Column: "sealed", Keys: []string{"id"}}, {Table: column.Table, Column: "of_a_later_release", Keys: []string{"id"}}}
		got, said, err := JudgeKeys(t.Context(), d, v, append(later, column))
		if got != want || want == scratch.Fail && err != nil || said == "" && err == nil {
			t.Errorf("got %s, want %s: %s (%v)", got, want, said, err)
		}
	}
	admin := dbtest.Superuser(t, cfg)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TABLE keysets_sample (id text PRIMARY KEY, sealed bytea)`)
	exec(`GRANT SELECT ON keysets_sample TO foundry_reader`)
	judged(v, scratch.Inconclusive)
	place := keys.Place{Table: column.Table, Column: column.Column, Row: keys.Row("one")}
	sealed, err := v.Seal(t.Context(), uuid.Nil, place, []byte("what nobody else may read"))
	if err != nil {
		t.Fatal(err)
	}
	exec(`INSERT INTO keysets_sample VALUES ('one', $1)`, sealed)
	judged(v, scratch.Pass)
	judged(keys.NewVault(keys.VaultOptions{DB: d, Keyring: own}), scratch.Pass)
	if got, _, _ := JudgeKeys(t.Context(), d, keys.NewVault(keys.VaultOptions{DB: d, Keyring: ring()}), []keys.Column{column}); got == scratch.Pass {
		t.Error("with the keys of another node it passes")
	}
	exec(`INSERT INTO keysets_sample VALUES ('two', $1)`, sealed) // moved to another row: it must not open there
	judged(v, scratch.Fail)
	exec(`DELETE FROM keysets_sample WHERE id = 'two'`)
	exec(`UPDATE keysets_sample SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)`)
	judged(v, scratch.Fail)
}
