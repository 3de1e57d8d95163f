//go:build faults

package faults

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/api"
)

// rotated waits until a keyset's rotation is at its end, and wants it whole:
// one key in force that holds every value, the older ones with none and
// disabled, and one entry for each key that was made or disabled.
func (i *installation) rotated(org uuid.UUID, values, rotations int) {
	i.t.Helper()
	var k api.KeysetStatus
	eventually(i.t, "the rotation to end by itself", func() (bool, string) {
		k = i.keyset(org)
		for _, key := range k.Keys {
			if key.Status == "enabled" {
				return false, fmt.Sprintf("%+v", k)
			}
		}
		return true, ""
	})
	if len(k.Keys) != rotations+1 {
		i.t.Errorf("%d keys after %d rotations: %+v", len(k.Keys), rotations, k.Keys)
	}
	for _, key := range k.Keys {
		switch {
		case key.Status == "primary" && key.Stored != int64(values):
			i.t.Errorf("the key in force holds %d values, want all %d", key.Stored, values)
		case key.Status == "disabled" && key.Stored != 0:
			i.t.Errorf("the older key %s is disabled and still holds %d values", key.Name, key.Stored)
		case key.Status != "primary" && key.Status != "disabled":
			i.t.Errorf("a key is %s", key.Status)
		}
		if key.Values < int64(values) || key.Bytes < int64(values)*int64(len("a secret of "+org.String())) {
			i.t.Errorf("the key %s has sealed all %d values and counts %d, of %d bytes", key.Name, values, key.Values, key.Bytes)
		}
	}
	i.allOpen(org, values)
	i.wantEntries(org, "keys.rotate", rotations)
	i.wantEntries(org, "keys.disable", rotations)
}

// one is 1 for what happened.
func one(happened bool) int {
	if happened {
		return 1
	}
	return 0
}

// Killed at every step, a rotation goes on at the next start and ends once:
// no value is lost, no key is left half-made, and the audit log has one entry
// for the new key and one for the end of the old one.
func TestARotationOfARealNodeIsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	const values = 130 // two transactions of values
	i := newInstallation(t, "")
	i.start()
	keeper := newAuditor(t, i.node)
	type victim struct {
		step, name   string
		org          uuid.UUID
		begun, ended bool // when it is killed: the new key is there, the old one is disabled
	}
	victims := []victim{
		{step: "BEFORE INSERT ON audit WHEN NEW.act = 'keys.rotate' AND NEW.organisation_id = '%s'"},
		{step: "AFTER INSERT ON audit WHEN NEW.act = 'keys.rotate' AND NEW.organisation_id = '%s'", begun: true},
		{step: "BEFORE UPDATE ON keyset_canaries WHEN NEW.organisation_id = '%s'", begun: true},
		{step: "AFTER UPDATE ON keyset_canaries WHEN NEW.organisation_id = '%s'", begun: true},
		{step: "BEFORE UPDATE ON keyset_canaries WHEN NEW.organisation_id = '%s' AND NEW.id = '%s'", begun: true},
		{step: "BEFORE INSERT ON audit WHEN NEW.act = 'keys.disable' AND NEW.organisation_id = '%s'", begun: true},
		{step: "AFTER INSERT ON audit WHEN NEW.act = 'keys.disable' AND NEW.organisation_id = '%s'", begun: true, ended: true},
	}
	var steps []string
	for n := range victims {
		v := &victims[n]
		v.name, v.org = i.organisation()
		i.seal(v.org, values)
		if n == 4 { // in the second of the transactions
			var last uuid.UUID
			if err := i.watch.QueryRow(t.Context(), `SELECT id FROM keyset_canaries WHERE organisation_id = $1 ORDER BY ctid DESC LIMIT 1`, v.org).Scan(&last); err != nil {
				t.Fatal(err)
			}
			v.step = fmt.Sprintf(v.step, v.org, last)
		} else {
			v.step = fmt.Sprintf(v.step, v.org)
		}
		steps = append(steps, v.step)
	}
	i.holdAt(steps...)
	var commands []*began
	for _, v := range victims {
		commands = append(commands, i.begin("keys", "rotate", "--org", v.name))
	}
	i.held(len(victims))
	keeper.keep()
	i.killHeld(len(victims))
	for _, c := range commands {
		c.lost(t)
	}
	for _, v := range victims {
		i.allOpen(v.org, values)
		i.wantEntries(v.org, "keys.rotate", one(v.begun))
		i.wantEntries(v.org, "keys.disable", one(v.ended))
	}

	// What waits to go on says so.
	i.holdAt("BEFORE INSERT ON audit WHEN NEW.act = 'keys.disable'")
	i.start()
	i.held(1)
	status := i.encryption()
	for _, v := range victims {
		warned := false
		for _, w := range status.Warnings {
			warned = warned || strings.Contains(w, v.org.String()) && strings.Contains(w, "rotation is not finished")
		}
		if warned != (v.begun && !v.ended) {
			t.Errorf("%s: the status warns of an unfinished rotation: %v; %q", v.step, warned, status.Warnings)
		}
	}
	i.release()
	for _, v := range victims {
		if !v.begun { // nothing had happened: it is asked for again
			i.say("keys", "rotate", "--org", v.name)
		}
		i.rotated(v.org, values, 1)
	}
	keeper.verify(t)
}

// Killed at random moments, a rotation gets to its end all the same; and one
// whose command is killed needs nobody to wait for it.
func TestARotationIsKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	values, kills := 4000, 4
	if testing.Short() {
		values, kills = 2000, 2
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	i := newInstallation(t, "")
	i.start()
	keeper := newAuditor(t, i.node)
	name, org := i.organisation()
	i.seal(org, values)
	i.seal(uuid.Nil, 50)

	// The command alone is killed.
	c := i.begin("keys", "rotate", "--org", name)
	eventually(t, "the rotation to begin", func() (bool, string) { return i.entries(org, "keys.rotate") == 1, "" })
	_ = c.cmd.Process.Kill()
	<-c.done
	i.rotated(org, values, 1)

	c = i.begin("keys", "rotate", "--org", name)
	eventually(t, "the rotation to begin", func() (bool, string) { return i.entries(org, "keys.rotate") == 2, "" })
	moved := 0
	for range kills {
		pass(time.Duration(random.Int64N(int64(400 * time.Millisecond))))
		keeper.keep()
		i.kill()
		i.allOpen(org, values)
		now := i.count(`SELECT count(DISTINCT substring(sealed FROM 1 FOR 5)) FROM keyset_canaries WHERE organisation_id = $1`, org)
		if now > 1 {
			moved++
		}
		i.start()
	}
	c.lost(t)
	i.rotated(org, values, 2)
	t.Logf("%d of %d kills came between the first value and the last", moved, kills)

	// The installation's own, and its keyring in files: the file changes while
	// its entry is being committed.
	i.holdAt("AFTER INSERT ON audit WHEN NEW.act = 'keys.rotate' AND NEW.organisation_id = '" + uuid.Nil.String() + "' AND NEW.details ? 'file'")
	c = i.begin("keys", "rotate")
	i.killHeld(1)
	c.lost(t)
	i.start()
	i.allOpen(uuid.Nil, 50)
	i.wantEntries(uuid.Nil, "keys.rotate", 1)
	i.holdAt("BEFORE UPDATE ON keyset_canaries WHEN NEW.organisation_id = '" + uuid.Nil.String() + "'")
	c = i.begin("keys", "rotate")
	i.killHeld(1)
	c.lost(t)
	i.start()
	eventually(t, "the installation's rotation to end", func() (bool, string) {
		return i.entries(uuid.Nil, "keys.disable") == 1, fmt.Sprintf("%+v", i.keyset(uuid.Nil))
	})
	i.allOpen(uuid.Nil, 50)
	i.wantEntries(uuid.Nil, "keys.rotate", 3) // the file's two and the database's
	keeper.verify(t)
}
