package target_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

func rules(p target.Probe) (out []string) {
	for _, f := range p.Findings {
		if f.Detail == "" || f.Mend == "" || f.Field == "" {
			out = append(out, "incomplete")
		}
		name := f.Rule
		if f.Fatal {
			name += "!"
		}
		out = append(out, name)
	}
	return out
}

func TestAProbeSaysWhatABucketKeepsFromBeingDeleted(t *testing.T) {
	t.Parallel()
	server := targettest.StartS3(t)
	server.Bucket(t, "plain")
	server.LockedBucket(t, "versions", 0)
	server.LockedBucket(t, "locked", 3)
	for name, c := range map[string]struct {
		bucket  string
		lock    *target.LockConfig
		deletes string
		rules   string
	}{
		"a plain bucket":                         {"plain", nil, target.DeletesForGood, "can-delete"},
		"a plain bucket that is said to lock":    {"plain", &target.LockConfig{Mode: target.ObjectLock}, target.DeletesForGood, "lock-missing!"},
		"a plain bucket, said to be append-only": {"plain", &target.LockConfig{Mode: target.AppendOnly}, target.DeletesForGood, "append-only-missing!"},
		"versions that nothing locks":            {"versions", nil, target.DeletesForGood, "can-delete"},
		"a locked bucket":                        {"locked", &target.LockConfig{Mode: target.ObjectLock, Days: 3}, target.DeletesMarks, ""},
		"a bucket that locks for too short":      {"locked", &target.LockConfig{Mode: target.ObjectLock, Days: 30}, target.DeletesMarks, "lock-short!"},
	} {
		t.Run(name, func(t *testing.T) {
			at := server.Open(t, "bucket", c.bucket)
			at.Lock = c.lock
			p, err := at.Probe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if p.Deletes != c.deletes || strings.Join(rules(p), " ") != c.rules || p.Took <= 0 {
				t.Errorf("got %+v, want to delete %s, and %q", p, c.deletes, c.rules)
			}
			if locked := c.bucket == "locked"; p.ObjectLock != (c.bucket != "plain") || locked && (p.Retention != "compliance" || p.RetentionDays != 3 || p.Versions != "enabled") {
				t.Errorf("lock: %+v", p)
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(server.Root, "plain/bucket/*")); len(left) > 0 {
		t.Errorf("probing left %q", left)
	}
}

func TestAProbeOfAServerThatCannotBeUsedIsAnError(t *testing.T) {
	t.Parallel()
	server := targettest.StartS3(t)
	server.Bucket(t, "backups")
	at := server.Open(t, "bucket", "nothing")
	if _, err := at.Probe(t.Context()); code(err) != "target-bucket-missing" {
		t.Errorf("no bucket: %v", err)
	}
	server.Restart(t, "--readonly")
	at = server.Open(t, "bucket", "backups")
	if _, err := at.Probe(t.Context()); code(err) != "target-denied" {
		t.Errorf("read-only: %v", err)
	}
	server.Stop()
	if _, err := at.Probe(t.Context()); code(err) != "target-gone" {
		t.Errorf("away: %v", err)
	}
}

func TestAProbeOfAnSFTPServerKnowsItsSpaceAndLeavesNothing(t *testing.T) {
	t.Parallel()
	server := targettest.StartSSH(t)
	at := server.Open(t, "box")
	p, err := at.Probe(t.Context())
	if err != nil || p.Deletes != target.DeletesForGood || p.Free <= 0 || p.Total < p.Free || strings.Join(rules(p), " ") != "can-delete" {
		t.Errorf("got %+v %v", p, err)
	}
	if left, _ := os.ReadDir(at.Path); len(left) > 0 {
		t.Errorf("probing left %v", left)
	}
	key, err := os.ReadFile(server.ReadKey)
	if err != nil {
		t.Fatal(err)
	}
	at.SFTPKey = string(key)
	if _, err := at.Probe(t.Context()); code(err) != "target-denied" {
		t.Errorf("an account that may only read: %v", err)
	}
}
