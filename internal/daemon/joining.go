package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/missionopsai/foundry/internal/durable"
)

// joiningFile says, in a data directory, that a join is at work there, and what
// it makes. It is gone when the join has ended.
const joiningFile = "joining.json"

// joinMakes is all that a join makes in a data directory.
var joinMakes = []string{"keys", "ca", "keys.given", "ca.given", "fleet"}

// Joining is a join at work in a data directory.
type Joining struct {
	// Fresh says that the directory holds no keys but those of the join itself:
	// it can take those of others.
	Fresh bool

	dir   string
	makes []string // what was not there before; empty: nothing is taken back
}

// BeginJoin prepares a data directory that [HoldDataDir] holds for a join. A
// join that was interrupted there leaves nothing in the way of this one: who has
// keys is given none.
func BeginJoin(dataDir string) (*Joining, error) {
	if err := takeBackJoin(dataDir); err != nil {
		return nil, err
	}
	j := &Joining{Fresh: Untouched(dataDir), dir: dataDir}
	if !j.Fresh {
		return j, nil
	}
	for _, name := range joinMakes {
		if absent(filepath.Join(dataDir, name)) {
			j.makes = append(j.makes, name)
		}
	}
	body, err := json.Marshal(j.makes)
	if err != nil {
		return nil, err
	}
	return j, replaceFile(filepath.Join(dataDir, joiningFile), append(body, '\n'), 0o600)
}

// End ends it. One that failed leaves nothing behind.
func (j *Joining) End(joined bool) error {
	switch {
	case len(j.makes) == 0:
		return nil
	case joined:
		_ = os.Remove(filepath.Join(j.dir, joiningFile)) // one that stays does no harm: the node has joined
		return nil
	}
	return takeBackJoin(j.dir)
}

// takeBackJoin removes what a join made that came to no end. A node that has
// run there since, or has joined, made use of it: then it stays.
func takeBackJoin(dataDir string) error {
	mark := filepath.Join(dataDir, joiningFile)
	body, err := os.ReadFile(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var made []string
	if err == nil {
		err = json.Unmarshal(body, &made)
	}
	if err != nil {
		return unusable(mark, err)
	}
	used := slices.ContainsFunc([]string{"node.json", "journal", "postgres", filepath.Join("fleet", "fleet.json")}, func(name string) bool { return !absent(filepath.Join(dataDir, name)) })
	for _, name := range made {
		if used || !slices.Contains(joinMakes, name) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dataDir, name)); err != nil {
			return unusable(filepath.Join(dataDir, name), err)
		}
	}
	if err := os.Remove(mark); err != nil {
		return unusable(mark, err)
	}
	return durable.SyncDir(dataDir)
}

func absent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}
