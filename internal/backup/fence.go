package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// Fence keeps a node that was recovered from doing anything until a person has
// looked at it: it answers that it is fenced, sends nothing, ships nothing, and
// does not write into the archive that it came from.
type Fence struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
	Mend   string    `json:"mend"`
}

// FenceFile is the file whose presence fences the node of a data directory.
func FenceFile(dataDir string) string { return filepath.Join(dataDir, "fenced") }

// ReadFence says whether a node is fenced; nil: it is not. Whatever stands in
// its place fences too: a file that cannot be read must not open the node.
func ReadFence(dataDir string) (*Fence, error) {
	path := FenceFile(dataDir)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, pathProblem(path, err)
	}
	f := Fence{}
	body, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(body, &f) != nil || f.Reason == "" {
		f.Reason = "The file " + path + " fences this node, and does not say why."
	}
	if f.Mend == "" {
		f.Mend = "Look at what was recovered, then run `foundry recover --activate`."
	}
	return &f, nil
}

// Problem is what the node answers while it is fenced.
func (f *Fence) Problem() *problem.Error {
	return problem.New(problem.Unavailable, "node-fenced", f.Reason).WithMend(f.Mend)
}

func setFence(dataDir string, f Fence) error {
	body, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(FenceFile(dataDir), append(body, '\n'), 0o600)
}

func liftFence(dataDir string) error {
	if err := os.Remove(FenceFile(dataDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pathProblem(FenceFile(dataDir), err)
	}
	return durable.SyncDir(dataDir)
}

// writeFile writes a file in one durable step, and makes its directories.
func writeFile(path string, body []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pathProblem(dir, err)
	}
	if err := durable.Replace(path, body, mode); err != nil {
		return pathProblem(path, err)
	}
	return nil
}

func pathProblem(path string, err error) error {
	var pe *fs.PathError
	reason := err.Error()
	if errors.As(err, &pe) {
		reason = pe.Err.Error()
	}
	return problem.New(problem.Unavailable, "path-unusable", fmt.Sprintf("%s cannot be used: %s.", path, reason)).
		WithMend("Check that it exists, that this user may write there and that the disk has room.").Wrap(err)
}
