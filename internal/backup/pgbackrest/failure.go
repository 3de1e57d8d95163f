package pgbackrest

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// symptom is a known failure. pgBackRest exits with the number in "ERROR: [055]"
// (src/build/error/error.yaml); 104 stands for several.
type symptom struct {
	text    *regexp.Regexp
	explain func(t target.Target, line string) *problem.Error
}

func gone(t target.Target, line string) *problem.Error {
	return problem.New(problem.Unavailable, "target-gone", fmt.Sprintf("The target %s does not answer (%s).", t.Name, line)).
		WithField("backup.targets").WithRetry(time.Minute).
		WithMend("See whether it is reachable from this machine. Until then WAL collects in the database's directory, and nothing of it is lost.")
}

func denied(t target.Target, line string) *problem.Error {
	return problem.New(problem.Denied, "target-denied", fmt.Sprintf("The target %s refuses (%s).", t.Name, line)).
		WithField("backup.targets").WithMend("Check its key, and what the key or this machine's database user may do there: list, read and write.")
}

func wrongKey(t target.Target, _ string) *problem.Error {
	return problem.New(problem.Denied, "repository-key", fmt.Sprintf("The repository at %s cannot be read with the passphrase that this node has for it.", t.Name)).
		WithMend("Use the passphrase of the node that made it, from its emergency kit; or choose another path for a new repository. Nothing was changed.")
}

func missing(t target.Target, _ string) *problem.Error {
	return problem.New(problem.NotFound, "repository-missing", fmt.Sprintf("There is no repository of the database at %s.", t.Name)).
		WithField("backup.targets").WithMend("Mount or reach the place that held it, or begin a new one with `foundry backup run`.")
}

var symptoms = []symptom{
	{regexp.MustCompile(`No space left on device|Disk quota exceeded|QuotaExceeded|\[28\]`), func(t target.Target, line string) *problem.Error {
		return problem.New(problem.Exhausted, "target-full", fmt.Sprintf("There is no space left for the backup at %s (%s).", t.Name, line)).
			WithField("backup.targets").WithMend("Free space there, or expire old points with `foundry backup expire`; what is there already is untouched.")
	}},
	{regexp.MustCompile(`Read-only file system|\[30\]`), func(t target.Target, line string) *problem.Error {
		return problem.New(problem.Denied, "target-read-only", fmt.Sprintf("The target %s can only be read (%s).", t.Name, line)).
			WithField("backup.targets").WithMend("Mount it writable; a disk that fails is often mounted read-only by the kernel, so look at its log.")
	}},
	{regexp.MustCompile(`\[063\]|terminated unexpectedly|terminated on signal`), killed},
	{regexp.MustCompile(`\[050\]|unable to acquire lock on file`), func(t target.Target, _ string) *problem.Error { return locked(t) }},
	{regexp.MustCompile(`\[062\]|stop file exists`), func(t target.Target, line string) *problem.Error {
		return problem.New(problem.Conflict, "engine-stopped", fmt.Sprintf("Somebody stopped pgBackRest for %s by hand (%s).", t.Name, line)).
			WithMend("If that reason is over, remove the stop file it names.")
	}},
	{regexp.MustCompile(`in certificate common name|certificate verify failed|unable to verify certificate|TLS error|unable to negotiate TLS`), func(t target.Target, line string) *problem.Error {
		return problem.New(problem.Denied, "target-certificate", fmt.Sprintf("The target %s has no certificate that can be trusted (%s).", t.Name, line)).
			WithField("backup.targets").WithMend("Name the file of its authority in s3.ca, and reach it by a name in its certificate: pgBackRest compares names only, never addresses.")
	}},
	{regexp.MustCompile(`CryptoError|FormatError|is or was the repo encrypted`), wrongKey},
	{regexp.MustCompile(`\[028\].*do not match|\[051\]|\[044\]|do not match the database|does not match (the )?stanza|archiveId .*mismatch`), func(t target.Target, line string) *problem.Error {
		return problem.New(problem.Conflict, "repository-foreign", fmt.Sprintf("The repository at %s is that of another database (%s).", t.Name, line)).
			WithField("backup.targets").WithMend("Choose another path for this node; nothing was changed there.")
	}},
	{regexp.MustCompile(`\[056\]|unable to connect to 'dbname`), refused},
	{regexp.MustCompile(`\[057\]|unable to find primary cluster`), func(_ target.Target, line string) *problem.Error {
		return problem.New(problem.Unavailable, "engine-database", "The database does not let the backup begin ("+line+").").
			WithMend("See whether the database runs, and whether archiving is on: it is when the node was started with backup targets.").WithRetry(10 * time.Second)
	}},
	{regexp.MustCompile(`\[082\]|was not archived before the`), func(t target.Target, line string) *problem.Error {
		return problem.New(problem.Unavailable, "engine-archive", fmt.Sprintf("WAL does not arrive at %s, so the backup would not be whole (%s).", t.Name, line)).
			WithMend("See what keeps the archive command from succeeding, in the database's log; the backup continues where it was, once that is mended.").WithRetry(time.Minute)
	}},
	{regexp.MustCompile(`\[087\]|archive_mode must be enabled|archive_command .* must contain`), func(_ target.Target, _ string) *problem.Error {
		return problem.New(problem.Conflict, "engine-archiving-off", "The database was started without archiving.").WithMend("Restart the node: it switches archiving on when backup targets are configured.")
	}},
	{regexp.MustCompile(`\[075\]|no backup set found|backup set .* is not valid`), func(t target.Target, line string) *problem.Error {
		return problem.New(problem.NotFound, "point-missing", fmt.Sprintf("The target %s has no such backup (%s).", t.Name, line)).WithMend("See what there is with `foundry backup list`.")
	}},
	{regexp.MustCompile(`HTTP request failed with 40[13]|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Permission denied|\[13\]`), denied},
	{regexp.MustCompile(`NoSuchBucket`), gone},
	{regexp.MustCompile(`\[049\]|HostConnectError|unable to (connect|get address)|Connection refused|timeout after|HTTP request failed|unexpected eof|Stale file handle|Transport endpoint|Input/output error|Host is down|\[039\]`), gone},
	{regexp.MustCompile(`\[026\]|checksum|ChecksumError|FileInvalidError|unable to (decompress|flush)`), damaged},
	{regexp.MustCompile(`\[055\]|FileMissingError|has a stanza-create been performed|No usable (backup|archive).info`), missing},
}

var errorLine = regexp.MustCompile(`(?m)(?:ERROR|ASSERT):\s*(\[\d+\].*)$`)

var letIn = regexp.MustCompile(`(?:FATAL|ERROR): +(.+)$`)

// refused explains that the database let no connection of the backup in.
func refused(_ target.Target, line string) *problem.Error {
	why := line
	if m := letIn.FindStringSubmatch(line); m != nil {
		why = m[1]
	}
	return problem.New(problem.Unavailable, "engine-refused", fmt.Sprintf("The database lets the backup not in (%s); nothing was begun.", why)).
		WithMend("It is tried again by itself. If it stays so, see whether the database runs and what else is connected to it: a second backup of the same cluster waits for the first.").WithRetry(10 * time.Second)
}

// killed explains a run that somebody else ended.
func killed(t target.Target, _ string) *problem.Error {
	return problem.New(problem.Upstream, "engine-killed", "pgBackRest was killed while it worked with the target "+t.Name+".").
		WithMend("Nothing that was there is lost: run it again, and it continues where it can. If it happens again, see whether the machine runs out of memory.")
}

// failure explains a run that did not end well.
func failure(t target.Target, out engine.Output, cause error) error {
	text := out.Text()
	var exit *exec.ExitError
	if errors.As(cause, &exit) && out.Exit == -1 {
		return killed(t, "").Wrap(fmt.Errorf("%w: %s", cause, text))
	}
	first := ""
	if m := errorLine.FindStringSubmatch(text); m != nil {
		first = m[1]
	}
	for _, s := range symptoms {
		at := s.text.FindStringIndex(text)
		if at == nil {
			continue
		}
		return s.explain(t, short(lineAt(text, at[0]))).Wrap(fmt.Errorf("%w: %s", cause, text))
	}
	if first == "" {
		first = fmt.Sprintf("it ended with %v and said nothing", cause)
	}
	return problem.New(problem.Internal, "engine-failed", fmt.Sprintf("pgBackRest failed at %s: %s.", t.Name, short(first))).
		WithMend("The node's log has all that it said.").Wrap(fmt.Errorf("%w: %s", cause, text))
}

func lineAt(text string, at int) string {
	start := strings.LastIndexByte(text[:at], '\n') + 1
	line, _, _ := strings.Cut(text[start:], "\n")
	return line
}

// logPrefix is the time, process and level before a message.
var logPrefix = regexp.MustCompile(`^(\d{4}-\d\d-\d\d [\d:.]+ )?(P\d+\s+)?(ERROR|WARN|INFO|DETAIL|ASSERT|HINT)?:?\s*`)

func short(line string) string {
	line = strings.TrimSpace(logPrefix.ReplaceAllString(strings.TrimSpace(line), ""))
	if len(line) > 240 {
		line = strings.ToValidUTF8(line[:240], "") + "…"
	}
	return strings.TrimSuffix(line, ".")
}
