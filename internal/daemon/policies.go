package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/problem"
)

// maxPolicyFile bounds what is read before the policies are parsed.
const maxPolicyFile = 256 << 10

// readPolicies reads the files of further policies.
func readPolicies(paths []string) ([]policy.Source, error) {
	var out []policy.Source
	for i, path := range paths {
		field := fmt.Sprintf("policies[%d]", i)
		info, err := os.Stat(path)
		if err == nil && info.Size() > maxPolicyFile {
			return nil, problem.New(problem.TooLarge, "policy-size", fmt.Sprintf("%s is larger than %d bytes.", path, maxPolicyFile)).WithField(field).WithMend("Is it the right file?")
		}
		text, err := os.ReadFile(path)
		if err != nil {
			reason := err.Error()
			var pe *fs.PathError
			if errors.As(err, &pe) {
				reason = pe.Err.Error()
			}
			return nil, problem.New(problem.Invalid, "policy-unreadable", fmt.Sprintf("%s cannot be read: %s.", path, reason)).WithField(field).
				WithMend("Name a file with Cedar policies that the node may read.").Wrap(err)
		}
		out = append(out, policy.Source{Name: path, Text: text})
	}
	return out, nil
}

// checkPolicies reports the first thing that is wrong with further policies.
func (c Config) checkPolicies() error {
	if len(c.Policies) == 0 {
		return nil
	}
	sources, err := readPolicies(c.Policies)
	if err != nil {
		return err
	}
	_, err = policy.Load(sources...)
	return err
}

// loadPolicies makes the guard that every act is asked of.
func (d *Daemon) loadPolicies(context.Context) error {
	sources, err := readPolicies(d.config.Policies)
	if err != nil {
		return err
	}
	engine, err := policy.Load(sources...)
	if err != nil {
		return err
	}
	d.guard = access.NewGuard(engine, d.db, d.clock, d.config.Mode)
	d.log.Info("policies in force", "digest", engine.Digest(), "policies", len(engine.Policies()), "files", len(sources))
	return nil
}
