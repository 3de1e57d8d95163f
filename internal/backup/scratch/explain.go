package scratch

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/missionopsai/foundry/internal/problem"
)

// symptoms are what a server writes when a copy cannot be opened
// (access/transam/xlogrecovery.c, xlog.c), and what that means.
var symptoms = []struct {
	text         *regexp.Regexp
	code, detail string
}{
	{regexp.MustCompile(`recovery ended before configured recovery target was reached`), "copy-short",
		"The write-ahead log in the repository ends before the moment that was asked for."},
	{regexp.MustCompile(`requested recovery stop point is before consistent recovery point`), "copy-early",
		"The backup that was restored is younger than the moment that was asked for."},
	{regexp.MustCompile(`could not locate required checkpoint record|could not locate a valid checkpoint|invalid (primary )?checkpoint record|WAL ends before end of online backup|WAL ends before consistent recovery point`), "copy-log-missing",
		"The write-ahead log that the backup itself needs is not in the repository, or not whole."},
	{regexp.MustCompile(`requested timeline \d+ is not a child of this server's history|requested timeline \d+ does not contain minimum recovery point`), "copy-timeline",
		"The write-ahead log in the repository belongs to another history than the backup."},
	{regexp.MustCompile(`incorrect checksum|invalid page|could not read (block|file)|incorrect resource manager data checksum|pg_control|control file`), "copy-damaged",
		"The restored files are damaged."},
}

// explain says what a copy that does not start means for the backup.
func explain(err error) error {
	text := chain(err)
	for _, s := range symptoms {
		if line := s.text.FindString(text); line != "" {
			return problem.New(problem.Unavailable, s.code, s.detail+" PostgreSQL says: "+line+".").
				WithMend("This point cannot be restored: `foundry backup verify` says what is missing, `foundry backup run --type full` makes a new one.").Wrap(err)
		}
	}
	var p *problem.Error
	if errors.As(err, &p) {
		return err
	}
	return fmt.Errorf("starting the restored copy: %w", err)
}

// chain joins the texts of an error and of everything that it wraps: what is
// shown leaves out what the server wrote.
func chain(err error) (text string) {
	for ; err != nil; err = errors.Unwrap(err) {
		text += err.Error() + "\n"
	}
	return text
}
