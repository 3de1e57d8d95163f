package pgbackrest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// keyFiles are the files of a repository that its passphrase opens by itself;
// what else is there is encrypted with keys that stand in these.
var keyFiles = []string{
	"archive/" + stanza + "/archive.info", "archive/" + stanza + "/archive.info.copy",
	"backup/" + stanza + "/backup.info", "backup/" + stanza + "/backup.info.copy",
}

// wholeInfo is what one of them reads like. Damage that leaves this line leaves
// the evidence: with another passphrase there is nothing to read at all.
var wholeInfo = regexp.MustCompile(`(?m)^\[backrest\]$`)

// notRead is how pgBackRest names what it could not read.
var notRead = regexp.MustCompile(`unable to (?:load|open|read)[^\n]*|raised from [^\n]*`)

// judgeKey tells a wrong passphrase from damage, for which pgBackRest has the
// same words: a passphrase that opens any file of the repository is right.
// Where it opens none, nobody can tell for sure, and both are said.
func (e *Engine) judgeKey(ctx context.Context, t target.Target, err error) error {
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != "repository-key" || ctx.Err() != nil {
		return err
	}
	c, cerr := e.configure(ctx, t)
	if cerr != nil {
		return err
	}
	var opened, shut []string
	for _, name := range keyFiles {
		out, gerr := e.child(t, c, nil, "--log-level-console=off", "--log-level-stderr=error", "repo-get", name).Run(ctx)
		switch {
		case gerr == nil && wholeInfo.Match(out.Out):
			opened = append(opened, name)
		case gerr == nil || !strings.Contains(out.Text(), "[055]") && !strings.Contains(out.Text(), "missing"):
			shut = append(shut, name)
		}
	}
	return keyVerdict(t, p, opened, shut)
}

// keyVerdict says what follows from which files the passphrase opens.
func keyVerdict(t target.Target, p *problem.Error, opened, shut []string) error {
	switch {
	case len(opened) > 0 && len(shut) > 0:
		return damaged(t, fmt.Sprintf("the passphrase is right, since it opens %s, but %s cannot be read", opened[0], strings.Join(shut, " and "))).Wrap(p)
	case len(opened) > 0:
		what := "a file that was to be read does not decrypt"
		if p.Err != nil {
			if line := notRead.FindString(p.Err.Error()); line != "" {
				what = short(strings.TrimSuffix(line, ":"))
			}
		}
		return damaged(t, fmt.Sprintf("the passphrase is right, since it opens %s; %s", opened[0], what)).Wrap(p)
	case len(shut) > 0:
		return problem.New(problem.Denied, "repository-key", fmt.Sprintf("The repository at %s cannot be read with the passphrase that this node has for it: it opens none of the %d files that it should. "+
			"Either it is the passphrase of another repository, or all of them are damaged.", t.Name, len(shut))).
			WithMend("Use the passphrase of the node that made it, from its emergency kit; or choose another path for a new repository. " +
				"If it is the right one, the repository is lost: recover from another target. Nothing was changed.").Wrap(p.Err)
	}
	return p
}

func damaged(t target.Target, line string) *problem.Error {
	return problem.New(problem.Internal, "repository-damaged", fmt.Sprintf("A file of the repository at %s is damaged (%s).", t.Name, line)).
		WithMend("Restore from another point or target, keep this repository as it is, and make a full backup at once.")
}

// child is one run of the program on a target's repository.
func (e *Engine) child(t target.Target, c conf, line func(string), args ...string) engine.Child {
	return engine.Child{
		Path: e.o.Program, Args: append([]string{"--config=" + c.path, "--stanza=" + stanza}, args...),
		Env: []string{"TZ=UTC", "HOME=/"}, Dir: "/", As: e.o.Account.Credential(), Line: line,
		Redact: []string{c.passphrase, t.S3Secret, t.S3Key},
	}
}
