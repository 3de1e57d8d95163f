package restic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// explain turns what restic said into what to do.
func (s *session) explain(op operation, exit int, text string, err error) error {
	cause := fmt.Errorf("restic %s ended with %d: %s: %w", op, exit, s.redacted(head(text, 600)), err)
	if p := s.known(op, text); p != nil && p.Code != "target-gone" {
		return p.Wrap(cause)
	} else if p != nil {
		return s.diagnose(op, text)
	}
	return problem.New(problem.Upstream, "engine-failed", fmt.Sprintf("restic could not %s at the target %s.", verbs[op], s.t.Name)).
		WithMend("The log has what it said; the next run tries again.").Wrap(cause)
}

var verbs = map[operation]string{
	opInit: "make the repository", opBackup: "back up", opRead: "read the repository", opCheck: "check the repository",
	opRestore: "restore", opExpire: "remove what is too old",
}

func head(text string, n int) string {
	if len(text) > n {
		return strings.ToValidUTF8(text[:n], "") + "…"
	}
	return text
}

// redacted takes the secrets out of what is kept as a cause, and logged.
func (s *session) redacted(text string) string {
	for _, secret := range s.redact {
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, "(redacted)")
		}
	}
	return text
}

func tail(text string, n int) string {
	if len(text) > n {
		return "…" + strings.ToValidUTF8(text[len(text)-n:], "")
	}
	return text
}

// final says whether a message means that trying again is of no use.
func (s *session) final(op operation, line string) error {
	if p := s.unwritten(op, strings.ToLower(line)); p != nil {
		return p.Wrap(errors.New(s.redacted(tail(line, 600))))
	}
	return nil
}

// known finds the first failure that a text speaks of. The order counts: what
// follows from another failure comes after it.
func (s *session) known(op operation, text string) *problem.Error {
	low := strings.ToLower(text)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(low, p) {
				return true
			}
		}
		return false
	}
	t := s.t.Name
	switch {
	case has("host key verification failed", "no ed25519 host key is known", "host key is known for"):
		return problem.New(problem.Denied, "target-host-key", "The server of the target "+t+" shows another host key than the pinned one. Nothing was sent.").
			WithField("sftp.known_hosts").WithMend("Find out why: only if whoever runs the server confirms a new key, write it to the file.")
	case has("permission denied (publickey", "signaturedoesnotmatch", "the request signature we calculated", "invalidaccesskeyid", "access key id you provided does not exist", "user not found"):
		return problem.New(problem.Unauthenticated, "target-credentials", "The target "+t+" does not accept these credentials.").
			WithMend("Check the target's key, and whether the account still has it.")
	case has("wrong password or no key found"):
		return problem.New(problem.Denied, "repository-key", "The repository at the target "+t+" does not open with this node's passphrase.").
			WithMend("It was made by another node or with another key: give the target another path, or recover with the emergency kit that belongs to it.")
	case has("already locked"):
		return problem.New(problem.Conflict, "engine-locked", "The repository at the target "+t+" is in use"+holder(text)+".").
			WithMend("Wait for it to end. If that process is surely gone, remove its lock: restic unlock, on the machine named.").WithRetry(time.Minute)
	case has("certificate signed by unknown authority", "certificate has expired", "certificate is valid for", "certificate is not valid"):
		return problem.New(problem.Upstream, "target-certificate", "The certificate of the target "+t+" is not trusted.").
			WithField("s3.ca").WithMend("Name the PEM file of its authority in s3.ca, or correct s3.endpoint.")
	case has("no snapshot found", "no matching id", "invalid id"):
		return problem.New(problem.NotFound, "point-missing", "There is no such backup at the target "+t+".").
			WithMend("`foundry backup list` names those that there are.")
	}
	if p := s.unwritten(op, low); p != nil {
		return p
	}
	switch {
	case has("connection refused", "no such host", "i/o timeout", "connection reset", "broken pipe", "no route to host", "network is unreachable",
		"connection timed out", "connection closed", "connection lost", "unexpected eof", "unable to start the sftp session", "server misbehaving", "tls handshake timeout"):
		return s.gone(text)
	case has("ciphertext verification failed", "pack id does not match", "repository contains errors", "is damaged", "not found in index", "not found in repository",
		"invalid data returned", "index is not complete", "does not match id", "invalid character", "config or key", "wrong hash", "unable to load tree", "packs from index missing", "data seems to be missing"):
		return damaged(t)
	case has("unable to open config file", "is there a repository at the following location"):
		if !s.there() {
			return s.gone(text)
		}
		return problem.New(problem.NotFound, "repository-missing", "There is no repository at the target "+t+".").
			WithField("path").WithMend("If there was one before: is the target's file system mounted, its path right, its bucket the same? It is not made again by itself.")
	case has("no such file or directory", "file does not exist", "specified key does not exist"): // a part of the repository
		if op != opBackup {
			return damaged(t)
		}
	}
	return nil
}

func damaged(t string) *problem.Error {
	return problem.New(problem.Upstream, "repository-damaged", "The repository at the target "+t+" is damaged.").
		WithMend("Do not remove anything there. Run `foundry backup verify`, restore from another target, and let a new backup begin elsewhere.")
}

// lost matches what restic says of a part of the repository that is not there,
// or not whole; a target that is away can look the same.
var lost = regexp.MustCompile(`(?i)no such file or directory|file does not exist|specified key does not exist|: EOF$`)

// diagnose asks the target itself why a run came to nothing: restic does not
// pass on what ssh says, and an SFTP server has no word for a full disk.
func (s *session) diagnose(op operation, said string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	store, err := s.t.Store(ctx)
	if err == nil {
		defer store.Close()
		_, err = store.List(ctx, s.e.o.Repository+"/config")
	}
	var p *problem.Error
	switch {
	case errors.As(err, &p) && p.Code != "target-file-missing":
		return p
	case lost.MatchString(strings.TrimSpace(said)) && op != opBackup && op != opInit:
		return damaged(s.t.Name).Wrap(errors.New(s.redacted(tail(said, 600))))
	}
	if sftp, ok := store.(*target.SFTP); ok && strings.Contains(said, "SSH_FX_FAILURE") {
		return sftp.Refused(packSize, errors.New(s.redacted(tail(said, 600))))
	}
	return s.gone(said)
}

// packSize is more than restic writes at once (16 MiB and what is under way beside it).
const packSize = 40 << 20

func (s *session) gone(said string) *problem.Error {
	return problem.New(problem.Unavailable, "target-gone", "The target "+s.t.Name+" cannot be reached.").
		WithMend("Check that it runs and that this machine reaches it; the next run goes on where this one stopped.").
		WithRetry(time.Minute).Wrap(errors.New(s.redacted(tail(said, 600))))
}

// there tells a directory that is empty from one that is away: a disk that is
// not mounted says nothing about the backups on it.
func (s *session) there() bool {
	if s.t.Kind != target.Directory {
		return true
	}
	_, err := os.Stat(s.t.Path)
	return !errors.Is(err, fs.ErrNotExist)
}

// unwritten finds why something could not be written, from a text in lower case.
func (s *session) unwritten(op operation, low string) *problem.Error {
	t := s.t.Name
	noSpace := strings.Contains(low, "no space left on device") || strings.Contains(low, "disk quota exceeded")
	switch {
	case noSpace && strings.Contains(low, strings.ToLower(s.e.o.State)):
		return problem.New(problem.Exhausted, "engine-state-full", "The disk of this node's own data directory is full.").
			WithMend("Free some space there: " + s.e.o.State + "/cache may be removed at any time.")
	case noSpace && op == opRestore:
		return problem.New(problem.Exhausted, "restore-full", "The disk that the files are restored to is full.").
			WithMend("Restore to a larger one.")
	case noSpace, strings.Contains(low, "insufficient storage"), strings.Contains(low, "quotaexceeded"), strings.Contains(low, "storagefull"), strings.Contains(low, "storage backend has reached"):
		return problem.New(problem.Exhausted, "target-full", "The target "+t+" is full.").
			WithMend("Give it more space, or shorten backup.keep_days; what is there already stays restorable.")
	case op == opRestore: // what follows would be said of this machine's disk
		return nil
	case strings.Contains(low, "read-only file system"):
		return problem.New(problem.Denied, "target-read-only", "The target "+t+" can be read but not written.").
			WithMend("Mount it, or open it, for writing; a file system that became read-only by itself has a failing disk.")
	case strings.Contains(low, "access denied"), strings.Contains(low, "accessdenied"), strings.Contains(low, "permission denied") && !strings.Contains(low, "publickey"):
		return problem.New(problem.Denied, "target-denied", "The target "+t+" refuses this node.").
			WithMend("Let the account read, list and write below " + path.Join(s.t.Path, s.e.o.Repository) + ".")
	}
	return nil
}

var lockedBy = regexp.MustCompile(`already locked (?:exclusively )?by PID ([0-9]{1,10}) on ([A-Za-z0-9._-]{1,64}) by`)

// holder names the process that holds a lock.
func holder(text string) string {
	if m := lockedBy.FindStringSubmatch(text); m != nil {
		return " by process " + m[1] + " on " + m[2]
	}
	return ""
}
