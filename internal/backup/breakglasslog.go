package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/problem"
)

// glassAct is one act behind broken glass.
type glassAct struct {
	ID      uuid.UUID `json:"id"`
	At      time.Time `json:"at"`
	Act     string    `json:"act"` // open, request, end
	Opening uuid.UUID `json:"opening"`
	Details *Opening  `json:"details,omitempty"` // of open
	Request string    `json:"request,omitempty"` // method and path
}

// chained is an act with its place in the chain.
type chained struct {
	glassAct
	hash [32]byte
}

// actChain is an append-only file in which each line holds the hash of the one
// before. Acts are there before they are done, and in the database afterwards.
// The acts themselves are sealed: they say why somebody was in distress.
//
//	base64(SHA-256 of the line before, or zeros) base64(sealed act)\n
type actChain struct {
	path, mark string
	seal, open func(data, associated []byte) ([]byte, error)

	mu       sync.Mutex
	last     [32]byte
	acts     []chained // not in the database yet
	anchored int       // lines that are
}

const chainLabel = "break glass act"

func openChain(dir string, seal, open func(data, associated []byte) ([]byte, error)) (*actChain, error) {
	c := &actChain{path: filepath.Join(dir, "acts"), mark: filepath.Join(dir, "acts.anchored"), seal: seal, open: open}
	if body, err := os.ReadFile(c.mark); err == nil {
		if err := json.Unmarshal(body, &c.anchored); err != nil {
			c.anchored = 0 // entering twice is the same as once
		}
	}
	body, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		c.anchored = 0
		return c, nil
	}
	if err != nil {
		return nil, pathProblem(c.path, err)
	}
	whole := body
	if end := bytes.LastIndexByte(body, '\n'); end+1 < len(body) {
		whole = body[:end+1] // a crash left half a line: the act was not done
		if err := os.Truncate(c.path, int64(len(whole))); err != nil {
			return nil, pathProblem(c.path, err)
		}
	}
	changed := func(what string, err error) error {
		return problem.New(problem.Conflict, "break-glass-chain", c.path+" was changed: "+what+".").
			WithMend("Treat it as a break-in. Keep the file, and move it away so that the node starts.").Wrap(err)
	}
	lines := 0
	for ; len(whole) > 0; lines++ {
		line, rest, _ := bytes.Cut(whole, []byte("\n"))
		act, err := c.read(line, lines >= c.anchored)
		if err != nil {
			return nil, changed("its lines do not follow from each other", err)
		}
		if lines >= c.anchored {
			c.acts = append(c.acts, act)
		}
		whole = rest
	}
	if lines < c.anchored {
		return nil, changed("lines that were entered into the database are gone", nil)
	}
	return c, nil
}

var errChain = errors.New("the chain is broken")

// read reads a line, and moves the chain's end behind it. What is in the
// database already may be sealed by a key that is no more.
func (c *actChain) read(line []byte, waits bool) (act chained, err error) {
	before, sealed, ok := bytes.Cut(line, []byte(" "))
	if !ok || string(before) != base64.StdEncoding.EncodeToString(c.last[:]) {
		return act, errChain
	}
	raw, err := base64.StdEncoding.DecodeString(string(sealed))
	if err != nil {
		return act, errChain
	}
	if waits {
		plain, err := c.open(raw, append([]byte(chainLabel), c.last[:]...))
		if err != nil {
			return act, errors.Join(errChain, err)
		}
		if err := json.Unmarshal(plain, &act.glassAct); err != nil {
			return act, err
		}
	}
	c.last = sha256.Sum256(line)
	act.hash = c.last
	return act, nil
}

// append enters an act, durably.
func (c *actChain) append(a glassAct) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	plain, err := json.Marshal(a)
	if err != nil {
		return err
	}
	sealed, err := c.seal(plain, append([]byte(chainLabel), c.last[:]...))
	if err != nil {
		return err
	}
	line := base64.StdEncoding.EncodeToString(c.last[:]) + " " + base64.StdEncoding.EncodeToString(sealed)
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return pathProblem(c.path, err)
	}
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return pathProblem(c.path, err)
	}
	_, err = f.WriteString(line + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return pathProblem(c.path, err)
	}
	c.last = sha256.Sum256([]byte(line))
	c.acts = append(c.acts, chained{a, c.last})
	return nil
}

func (c *actChain) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acts)
}

func (c *actChain) next() (chained, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.acts) == 0 {
		return chained{}, false
	}
	return c.acts[0], true
}

// entered notes that the first act that waited is in the database.
func (c *actChain) entered() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acts, c.anchored = c.acts[1:], c.anchored+1
	body, err := json.Marshal(c.anchored)
	if err != nil {
		return err
	}
	return writeFile(c.mark, body, 0o600)
}
