package evidence

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Material says where key material and data are.
type Material struct {
	Name    string            // of the secret, in words; empty: the key-encryption key
	KEK     string            // the file of that secret; empty: it is in no file of this node
	Place   string            // in words, where it is in no file
	Unseen  string            // in words, why its file does not tell whether it is apart; empty: it does
	Former  []string          // files of former keys, which still open old values and backups
	Data    map[string]string // name of a place where data lies (data, backups) → directory
	Skipped []string          // directories below Data that are too large to search here
}

// maxSearched bounds the files that are searched for the key: key material is
// copied in small files, not in gigabytes.
const maxSearched = 4 << 20

// maxKeyFile bounds a key's own file: none is larger.
const maxKeyFile = 64 << 10

// searchBlock is how much of a file is in memory at a time.
const searchBlock = 64 << 10

// Apart checks that what opens the data lies apart from the data and the
// backups: on another volume, readable by its owner only, and copied nowhere
// among them (O-07).
func Apart(material func() (Material, error)) Collect {
	return func(ctx context.Context, progress func(string)) ([]Finding, error) {
		m, err := material()
		if err != nil {
			return nil, err
		}
		if m.Name == "" {
			m.Name = "key-encryption key"
		}
		former := formerKeys(m)
		if m.KEK == "" {
			return append([]Finding{{Subject: m.Name, Result: Inconclusive, Reason: "The " + m.Name + " is in no file of this node (" + m.Place + "), and whether it is apart from the data cannot be seen from here."}}, former...), nil
		}
		key, err := readKeyFile(m.KEK)
		if err != nil {
			return nil, fmt.Errorf("the file of the %s cannot be read: %w", m.Name, err)
		}
		defer clear(key)
		out := append([]Finding{placed(m)}, former...)
		for _, name := range slices.Sorted(maps.Keys(m.Data)) {
			progress("searching " + name)
			f, err := copies(ctx, name, m.Data[name], m, key)
			if err != nil {
				return nil, err
			}
			out = append(out, f)
		}
		return out, nil
	}
}

// formerKeys looks where the files of former keys are. One that is gone is as
// it should be.
func formerKeys(m Material) (out []Finding) {
	for _, path := range m.Former {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		f := placed(Material{Name: "former key " + filepath.Base(path), KEK: path, Data: m.Data})
		if f.Result == Fail {
			f.Reason += " It still opens old backups: move it into escrow, or delete it once no backup needs it."
		}
		out = append(out, f)
	}
	return out
}

// placed looks at the key's file itself.
func placed(m Material) Finding {
	f := Finding{Subject: m.Name, Covered: []string{"the file's owner and mode", "its volume, compared with those of the data"}, NotCovered: []string{"volumes that lie on one disk", "copies on other machines"}}
	info, err := os.Stat(m.KEK)
	if err != nil {
		f.Result, f.Reason, f.Covered = Inconclusive, "Its file cannot be looked at.", nil
		return f
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return f.fail(fmt.Sprintf("Its file has mode %04o: others can read it.", mode))
	}
	mine, ok := info.Sys().(*syscall.Stat_t)
	for name, dir := range m.Data {
		data, err := os.Stat(dir)
		if err != nil || !ok {
			f.Result, f.Reason, f.Covered = Inconclusive, fmt.Sprintf("The volume of the %s cannot be looked at.", name), nil
			return f
		}
		if their, ok := data.Sys().(*syscall.Stat_t); ok && their.Dev == mine.Dev {
			return f.fail(fmt.Sprintf("The %s lies on the volume of the %s: whoever takes that volume has both.", m.Name, name))
		}
	}
	if m.Unseen != "" {
		f.NotCovered = append(f.NotCovered, m.Unseen)
		return f.pass("Where it is read it lies on a volume of its own, and only its owner can read it. What cannot be seen from here is attested: O-07.credential.")
	}
	return f.pass("It lies on a volume of its own, and only its owner can read it.")
}

var errFound = errors.New("found")

// copies searches small files for the key, as it stands in its file and as
// bytes.
func copies(ctx context.Context, name, dir string, m Material, key []byte) (Finding, error) {
	f := Finding{Subject: name, NotCovered: append([]string{fmt.Sprintf("files above %d MiB: the canary search of O-06 covers those", maxSearched>>20), "free space of the disk"}, m.Skipped...)}
	needles := secretsIn(key)
	kek, _ := filepath.Abs(m.KEK)
	files, found, buf := 0, "", make([]byte, searchBlock)
	defer clear(buf)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it went away meanwhile
			}
			return errors.Join(err, ctx.Err())
		}
		for _, s := range m.Skipped {
			if d.IsDir() && path == s {
				return fs.SkipDir
			}
		}
		info, err := d.Info()
		if abs, _ := filepath.Abs(path); err != nil || !info.Mode().IsRegular() || info.Size() > maxSearched || abs == kek {
			return nil // the key's own file is judged by its volume
		}
		held, err := holds(path, needles, buf)
		if err != nil {
			return nil
		}
		files++
		if held {
			found = strings.TrimPrefix(path, dir)
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return f, fmt.Errorf("searching the %s: %w", name, err)
	}
	f.Covered = []string{fmt.Sprintf("%d files of at most %d MiB, for the %s as its file has it and as bytes", files, maxSearched>>20, m.Name)}
	if found != "" {
		return f.fail(fmt.Sprintf("The %s stands in a file among the %s: %s.", m.Name, name, found)), nil
	}
	return f.pass("No file holds a copy of the " + m.Name + "."), nil
}

// readKeyFile reads a key's file, and no more than any such file has: a path
// that names something else must not fill the memory.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(key) > maxKeyFile {
		clear(key)
		return nil, fmt.Errorf("it has more than %d KiB: it is no key", maxKeyFile>>10)
	}
	return key, err
}

// holds looks for needles in the first maxSearched bytes of a file, through buf.
// What stands on the edge of two blocks is seen too: the end of each is kept.
func holds(path string, needles [][]byte, buf []byte) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	longest := 0
	for _, n := range needles {
		longest = max(longest, len(n))
	}
	if 2*longest > len(buf) {
		buf = make([]byte, 2*longest)
		defer clear(buf)
	}
	from := io.LimitReader(f, maxSearched)
	for kept := 0; ; {
		n, err := from.Read(buf[kept:])
		seen := buf[:kept+n]
		for _, needle := range needles {
			if bytes.Contains(seen, needle) {
				return true, nil
			}
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buf, seen[max(0, len(seen)-longest+1):])
	}
}

// secretsIn are the forms in which a copy of a key's file would be found: as it
// stands, decoded, and age identities without the comments around them.
func secretsIn(key []byte) [][]byte {
	text := bytes.TrimSpace(key)
	out := [][]byte{text}
	if raw, err := base64.StdEncoding.DecodeString(string(text)); err == nil {
		out = append(out, raw)
	}
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); bytes.HasPrefix(line, []byte("AGE-SECRET-KEY-")) {
			out = append(out, line)
		}
	}
	return slices.DeleteFunc(out, func(b []byte) bool { return len(b) < 16 }) // shorter ones stand anywhere
}
