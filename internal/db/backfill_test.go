package db_test

import (
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// A backfill that sees no row, or not every one, changes nothing and says
// nothing: it has to be refused, and undone.
func TestAMigrationThatDoesNotSeeEveryRowIsRefused(t *testing.T) {
	t.Parallel()
	const table = "create table t (id int, note text); create table u (n bigint); alter table t enable row level security; alter table t force row level security;"
	const all = "create policy migrator on t to foundry_migrator using (true) with check (true);"
	for name, c := range map[string]struct {
		policies, backfill string
		refused            bool
	}{
		"an update that sees none":              {"", "update t set note = 'new'", true},
		"an update that sees some":              {"create policy migrator on t to foundry_migrator using (id = 1);", "update t set note = 'new'", true},
		"an update under a restrictive policy":  {all + "create policy less on t as restrictive using (id = 1);", "update t set note = 'new'", true},
		"a delete that sees none":               {"", "delete from t", true},
		"a copy that sees none":                 {"", "insert into u select count(*) from t", true},
		"an update in a block that sees none":   {"", "do $$ begin update t set note = 'new'; end $$", true},
		"an update that sees all":               {all, "update t set note = 'new'", false},
		"a delete that sees all":                {all, "delete from t where id = 1", false},
		"an update after the policy was mended": {"", all + "update t set note = 'new'", false},
		"an altered table, which moves nothing": {"", "alter table t add column more int", false},
		"another table":                         {"", "insert into u values (1)", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := empty(t)
			first := table + c.policies
			migrated(t, cfg, release(t, first))
			if _, err := dbtest.Superuser(t, cfg).Exec(t.Context(), "insert into t values (1, 'old'), (2, 'old'), (3, 'old')"); err != nil {
				t.Fatal(err)
			}
			err := db.MigrateFS(t.Context(), cfg, nil, release(t, first, c.backfill))
			if !c.refused {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if p := problem.From(err); err == nil || p.Code != "migration-blind" || !strings.Contains(p.Error(), "of its 3 rows") || !strings.Contains(p.Error(), "CREATE POLICY migrator ON t") {
				t.Errorf("got %v", err)
			}
			if got := versions(t, cfg); got != "1>1 2>1" {
				t.Errorf("applied %s", got)
			}
			var old int
			super := dbtest.Superuser(t, cfg)
			if err := super.QueryRow(t.Context(), "select count(*) from t where note = 'old'").Scan(&old); err != nil || old != 3 {
				t.Errorf("%d rows are as they were, %v", old, err)
			}
			var forced bool
			if err := super.QueryRow(t.Context(), "select relforcerowsecurity from pg_class where oid = 't'::regclass").Scan(&forced); err != nil || !forced {
				t.Errorf("the wall is down: %v", err)
			}
		})
	}
}
