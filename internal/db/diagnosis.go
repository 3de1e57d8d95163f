package db

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/missionopsai/foundry/internal/problem"
)

// symptoms are what PostgreSQL writes (with lc_messages=C) when it does not
// start, from src/backend/utils/init/miscinit.c, access/transam/xlog.c and
// postmaster/postmaster.c. The first that matches explains the failure.
var symptoms = []struct {
	text    *regexp.Regexp
	explain func(dir, line string) *problem.Error
}{
	{regexp.MustCompile(`No space left on device|Disk quota exceeded`), func(dir, _ string) *problem.Error {
		return problem.New(problem.Unavailable, "disk-full", "The database cannot be started: the disk that holds "+dir+" is full.").
			WithMend("Free at least 200 MB there and start again; nothing is lost.")
	}},
	{regexp.MustCompile(`lock file "[^"]*\.s\.PGSQL\.[^"]*" already exists|could not bind Unix address|is another postmaster .*using socket file`), func(_, line string) *problem.Error {
		return problem.New(problem.Conflict, "socket-held", "Another PostgreSQL server holds the socket of the database ("+line+").").
			WithMend("Stop that server, or choose another data directory or socket directory.")
	}},
	{regexp.MustCompile(`recovery ended before configured recovery target was reached`), func(_, _ string) *problem.Error {
		return problem.New(problem.NotFound, "recovery-target-missed", "The archived WAL ends before the moment that the database was to be brought to.").
			WithMend("Ask for an earlier moment, or for the end of what there is; a gap in the archive also ends it.")
	}},
	{regexp.MustCompile(`WAL ends before (end of online backup|consistent recovery point)`), func(_, _ string) *problem.Error {
		return problem.New(problem.NotFound, "recovery-inconsistent", "The archived WAL ends before the backup itself is whole, so the database cannot be used.").
			WithMend("Restore an older backup, or from another target.")
	}},
	{regexp.MustCompile(`requested timeline .* (is not a child of|does not contain)|recovery target timeline .* does not exist`), func(_, line string) *problem.Error {
		return problem.New(problem.NotFound, "recovery-timeline", "The backup is not part of the history it was to be brought along ("+line+").").
			WithMend("Restore a backup of that history, or follow the backup's own timeline.")
	}},
	{regexp.MustCompile(`database files are incompatible with server|was initialized by PostgreSQL version`), func(dir, line string) *problem.Error {
		return problem.New(problem.Conflict, "cluster-major", "The database in "+dir+" was made by another kind of PostgreSQL server ("+line+").").
			WithMend("Install the server that made it, or move the data with pg_upgrade after a backup.")
	}},
	{regexp.MustCompile(`Permission denied|invalid permissions|wrong ownership`), func(dir, line string) *problem.Error {
		return problem.New(problem.Denied, "cluster-unreadable", "The database server may not use its own files in "+dir+" ("+line+").").
			WithMend("Give the directory `data` in it, and all below, back to the user that runs the server, with mode 0700.")
	}},
	{regexp.MustCompile(`(?i)could not locate a valid checkpoint|invalid (primary )?checkpoint record|pg_control|control file|could not find the database system|is not a valid data directory|could not open (file|directory) "(global|base|pg_|data)|could not read file|could not access status of transaction|invalid page|could not locate required checkpoint|calculated (CRC )?checksum|incorrect checksum|cache lookup failed|could not open relation`), func(dir, line string) *problem.Error {
		return damaged(filepath.Join(dir, "data"), line, nil)
	}},
	{regexp.MustCompile(`could not create (shared memory segment|semaphores)|could not map anonymous shared memory|Cannot allocate memory`), func(_, line string) *problem.Error {
		return problem.New(problem.Unavailable, "server-memory", "The database server gets no memory ("+line+").").
			WithMend("Free memory, or lower shared_buffers in the configuration.")
	}},
	{regexp.MustCompile(`unrecognized configuration parameter|invalid value for parameter|configuration file .* contains errors|is outside the valid range`), func(_, line string) *problem.Error {
		return problem.New(problem.Invalid, "server-setting", "The database server does not accept a setting ("+line+").").
			WithMend("Correct the setting in the configuration.")
	}},
}

// serious matches the lines that say why a server gave up. Single-user mode
// and the collector both write the severity after a prefix.
var serious = regexp.MustCompile(`(?m)^.*?\b(?:FATAL|PANIC|ERROR|initdb: error):\s+(.*)$`)

// severity matches all that comes before the message of a line.
var severity = regexp.MustCompile(`^.*?\b(?:FATAL|PANIC|ERROR|WARNING|LOG|initdb: error):\s+`)

// diagnose explains why the server did not start, from what it wrote.
func diagnose(dir, what, text string, cause error) error {
	last := ""
	for _, m := range serious.FindAllStringSubmatch(text, -1) {
		last = sentence(m[1])
	}
	for _, s := range symptoms {
		at := s.text.FindStringIndex(text)
		if at == nil {
			continue
		}
		return s.explain(dir, lineAt(text, at[0])).Wrap(fmt.Errorf("%s: %w: %s", what, orUnknown(cause), tail(text, 2000)))
	}
	if last == "" {
		wrote := strings.TrimSpace(text)
		last = sentence(tail(wrote[strings.LastIndexByte(wrote, '\n')+1:], 200))
	}
	if last == "" {
		last = orUnknown(cause).Error()
	}
	return problem.New(problem.Unavailable, "server-start", "The database server does not start: "+last+".").
		WithMend("Its log is in " + filepath.Join(dir, "log") + ".").
		Wrap(fmt.Errorf("%s: %w: %s", what, orUnknown(cause), tail(text, 2000)))
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("exited")
	}
	return err
}

// lineAt returns the message on the line around an offset.
func lineAt(text string, at int) string {
	start := strings.LastIndexByte(text[:at], '\n') + 1
	line, _, _ := strings.Cut(text[start:], "\n")
	if m := severity.FindStringIndex(line); m != nil {
		line = line[m[1]:]
	}
	return sentence(line)
}

// sentence fits a line into a sentence of ours, and keeps what would move a
// terminal's cursor out of it.
func sentence(line string) string {
	line = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
	return strings.TrimSuffix(strings.TrimSpace(line), ".")
}

func tail(text string, n int) string {
	if len(text) > n {
		return text[len(text)-n:]
	}
	return text
}

func damaged(data, how string, cause error) *problem.Error {
	return problem.New(problem.Internal, "cluster-damaged", "The database in "+data+" is damaged: "+how+".").
		WithMend("Keep the directory as it is, and restore the database from a backup; deleting files from it only makes it worse.").Wrap(cause)
}

func unreadable(dir string, cause error) *problem.Error {
	return problem.New(problem.Denied, "cluster-unreadable", fmt.Sprintf("The directory %s cannot be read by %s.", dir, userName(os.Geteuid()))).
		WithMend("Start Foundry as the user it was made by, or choose another data directory.").Wrap(cause)
}

// fileProblem explains why a file or directory could not be made.
func fileProblem(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return problem.New(problem.Unavailable, "disk-full", "The disk that holds "+path+" is full.").
			WithMend("Free at least 200 MB there and start again; nothing is lost.").Wrap(err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return problem.New(problem.Denied, "cluster-unreadable", fmt.Sprintf("%s may not write %s.", userName(os.Geteuid()), path)).
			WithMend("Choose another data directory, or make this one writable.").Wrap(err)
	case errors.Is(err, syscall.ENOTDIR):
		return problem.New(problem.Conflict, "cluster-dir", "A part of the path "+path+" is not a directory.").
			WithMend("Move it away, or choose another data directory.").Wrap(err)
	}
	return fmt.Errorf("preparing the database directory: %w", err)
}

// logsSince reads the end of what the server logged after a moment.
func logsSince(dir string, since time.Time) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.ModTime().Before(since.Add(-time.Second)) {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if info.Size() > 16<<10 {
			_, _ = f.Seek(-16<<10, io.SeekEnd)
		}
		text, _ := io.ReadAll(io.LimitReader(f, 16<<10))
		_ = f.Close()
		b.Write(recent(text, since))
	}
	return b.String()
}

// recent keeps the lines of a log whose time is not before since. Lines begin
// with a time as log_line_prefix %m writes it, in UTC.
func recent(text []byte, since time.Time) []byte {
	from := since.UTC().Add(-time.Millisecond).Format("2006-01-02 15:04:05.000")
	var kept []byte
	for line := range strings.Lines(string(text)) {
		if len(line) >= len(from) && line[:len(from)] >= from {
			kept = append(kept, line...)
		}
	}
	return kept
}
