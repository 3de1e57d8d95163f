package target

import (
	"context"
	"syscall"

	"github.com/missionopsai/foundry/internal/problem"
)

// Space says how much is free there and how much there is in all, in bytes. A
// bucket says neither: with quota_gb, what is stored is counted and the rest
// of the quota is free. A *problem.Error with code "space-unknown" says that it
// cannot be known.
func (t Target) Space(ctx context.Context) (free, total int64, err error) {
	switch t.Kind {
	case Directory:
		free, total, err = t.directorySpace()
	case SFTPHost:
		if t.QuotaGB == 0 {
			return t.serverSpace(ctx)
		}
	case S3Bucket:
		if t.QuotaGB == 0 {
			return 0, 0, problem.New(problem.Unsupported, "space-unknown", "The target "+t.Name+" does not say how much is free there.").
				WithField("quota_gb").WithMend("Set quota_gb to what may be stored there.")
		}
	}
	if err != nil || t.QuotaGB == 0 {
		return free, total, err
	}
	used, err := t.used(ctx)
	if err != nil {
		return 0, 0, err
	}
	quota := t.QuotaGB << 30
	left := max(0, quota-used)
	if t.Kind == Directory {
		left = min(left, free) // whichever ends first
	}
	return left, quota, nil
}

func (t Target) directorySpace() (free, total int64, err error) {
	if err := t.There(); err != nil {
		return 0, 0, err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(t.Path, &fs); err != nil {
		return 0, 0, gone(t.Name, "path", err)
	}
	size := int64(fs.Bsize)                                      //nolint:unconvert // the type differs between systems
	return int64(fs.Bavail) * size, int64(fs.Blocks) * size, nil //nolint:gosec // no volume has 2^63 bytes
}

func (t Target) serverSpace(ctx context.Context) (free, total int64, err error) {
	s, err := DialSFTP(ctx, t)
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	return s.Space()
}

// used counts what is stored below the target's path.
func (t Target) used(ctx context.Context) (n int64, err error) {
	s, err := t.Store(ctx)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	files, err := s.List(ctx, "")
	if isMissing(err) {
		return 0, nil // the first backup makes it
	}
	for _, f := range files {
		n += f.Size
	}
	return n, err
}
