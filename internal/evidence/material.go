package evidence

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
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
	KEK     string            // file of the key-encryption key; empty: it is in no file of this node
	Place   string            // in words, where it is in no file
	Data    map[string]string // name of a place where data lies (data, backups) → directory
	Raw     int               // bytes of the key; its file holds them in base64
	Skipped []string          // directories below Data that are too large to search here
}

// maxSearched bounds the files that are searched for the key: key material is
// copied in small files, not in gigabytes.
const maxSearched = 4 << 20

// Apart checks that the key-encryption key lies apart from the data and the
// backups: on another volume, readable by its owner only, and copied nowhere
// among them (O-07).
func Apart(material func() (Material, error)) Collect {
	return func(ctx context.Context, progress func(string)) ([]Finding, error) {
		m, err := material()
		if err != nil {
			return nil, err
		}
		if m.KEK == "" {
			return []Finding{{Subject: "key-encryption key", Result: Inconclusive, Reason: "The key is in no file of this node (" + m.Place + "), and whether it is apart from the data cannot be seen from here."}}, nil
		}
		key, err := os.ReadFile(m.KEK)
		if err != nil {
			return nil, fmt.Errorf("the key's file cannot be read: %w", err)
		}
		defer clear(key)
		where := placed(m)
		var out []Finding
		for _, name := range slices.Sorted(maps.Keys(m.Data)) {
			progress("searching " + name)
			f, err := copies(ctx, name, m.Data[name], m, key)
			if err != nil {
				return nil, err
			}
			out = append(out, f)
		}
		return append([]Finding{where}, out...), nil
	}
}

// placed looks at the key's file itself.
func placed(m Material) Finding {
	f := Finding{Subject: "key-encryption key", Covered: []string{"the file's owner and mode", "its volume, compared with those of the data"}, NotCovered: []string{"volumes that lie on one disk", "copies on other machines"}}
	info, err := os.Stat(m.KEK)
	if err != nil {
		f.Result, f.Reason, f.Covered = Inconclusive, "The key's file cannot be looked at.", nil
		return f
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return f.fail(fmt.Sprintf("The key's file has mode %04o: others can read it.", mode))
	}
	mine, ok := info.Sys().(*syscall.Stat_t)
	for name, dir := range m.Data {
		data, err := os.Stat(dir)
		if err != nil || !ok {
			f.Result, f.Reason, f.Covered = Inconclusive, fmt.Sprintf("The volume of the %s cannot be looked at.", name), nil
			return f
		}
		if their, ok := data.Sys().(*syscall.Stat_t); ok && their.Dev == mine.Dev {
			return f.fail(fmt.Sprintf("The key lies on the volume of the %s: whoever takes that volume has both.", name))
		}
	}
	return f.pass("The key lies on a volume of its own, and only its owner can read it.")
}

var errFound = errors.New("found")

// copies searches small files for the key, as it stands in its file and as
// bytes.
func copies(ctx context.Context, name, dir string, m Material, key []byte) (Finding, error) {
	f := Finding{Subject: name, NotCovered: append([]string{fmt.Sprintf("files above %d MiB: the canary search of O-06 covers those", maxSearched>>20), "free space of the disk"}, m.Skipped...)}
	text := bytes.TrimSpace(key)
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		raw = text
	}
	kek, _ := filepath.Abs(m.KEK)
	files, found := 0, ""
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
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
		body, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		files++
		if bytes.Contains(body, text) || bytes.Contains(body, raw) {
			found = strings.TrimPrefix(path, dir)
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return f, fmt.Errorf("searching the %s: %w", name, err)
	}
	f.Covered = []string{fmt.Sprintf("%d files of at most %d MiB, for the key in base64 and as bytes", files, maxSearched>>20)}
	if found != "" {
		return f.fail(fmt.Sprintf("The key-encryption key stands in a file among the %s: %s.", name, found)), nil
	}
	return f.pass("No file holds a copy of the key-encryption key."), nil
}
