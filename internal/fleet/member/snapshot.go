package member

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

const snapshotSuffix = ".snapshot"

// Snapshot writes the store, as this node has it, into a file of its
// directory and returns its path. What is secret in it is sealed under the
// fleet's keyset, as it is in the store. It needs no majority.
func (m *Member) Snapshot(ctx context.Context) (path string, err error) {
	if m.etcd() == nil {
		return "", problem.New(problem.Unsupported, "snapshot-elsewhere", "This node keeps no copy of the fleet's store.").WithMend("Make the snapshot on a member; the fleet's map names them.")
	}
	if m.life.Err() != nil {
		return "", errStopped
	}
	dir := m.files.path(snapshotDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", unusable(dir, err)
	}
	s := m.seat.Load()
	if s.life.Err() != nil {
		return "", m.away()
	}
	r, err := s.client.Snapshot(ctx)
	if err != nil {
		return "", worded(err)
	}
	defer r.Close()
	f, err := os.CreateTemp(dir, ".making-*")
	if err != nil {
		return "", unusable(dir, err)
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("writing a snapshot of the fleet's store: %w", err)
	}
	now := m.clock().UTC()
	path = filepath.Join(dir, now.Format("20060102T150405.000Z")+snapshotSuffix)
	if err := os.Rename(f.Name(), path); err != nil {
		return "", unusable(path, err)
	}
	if err := durable.SyncDir(dir); err != nil {
		return "", unusable(dir, err)
	}
	m.mu.Lock()
	m.shot = now
	m.mu.Unlock()
	return path, nil
}

// Snapshots lists the files that a directory has, the newest first.
func Snapshots(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, snapshotDir))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unusable(dir, err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), snapshotSuffix) {
			out = append(out, filepath.Join(dir, snapshotDir, e.Name()))
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

// keepSnapshots makes one now and then, and keeps the newest.
func (m *Member) keepSnapshots() {
	for wait := time.Minute; m.pause(min(wait, m.o.SnapshotEvery)); wait = m.o.SnapshotEvery {
		ctx, cancel := context.WithTimeout(m.life, time.Minute)
		_, err := m.Snapshot(ctx)
		cancel()
		if err == nil {
			err = m.prune()
		}
		if err != nil && m.life.Err() == nil {
			m.log.Warn("no snapshot of the fleet's store was made", "error", err)
		}
	}
}

func (m *Member) prune() error {
	all, err := Snapshots(m.files.dir)
	if err != nil {
		return err
	}
	for _, old := range all[min(len(all), m.o.SnapshotKeep):] {
		if err := os.Remove(old); err != nil {
			return unusable(old, err)
		}
	}
	return nil
}
