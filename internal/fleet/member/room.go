package member

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/problem"
)

// A store that cannot write to its disk stops for good, with its locks held.
// So a member leaves its seat before that, hands over what it leads, and comes
// back by itself when there is room. What etcd writes until it is out is
// reserved: its log takes segments of 8 MB ahead, and room.go the database.
const (
	leastRoom = 24 << 20 // free bytes below which a member leaves
	roomAgain = 2        // times that are free when it comes back
	roomEvery = 250 * time.Millisecond
	ahead     = 16 << 20 // bytes that the database has reserved
)

// keepRoom watches the disk under the store.
func (m *Member) keepRoom() {
	if m.o.Room < 0 {
		return
	}
	reserved := int64(0)
	for m.pause(roomEvery) {
		reserved = m.reserve(reserved)
		if free, err := freeBytes(m.files.dir); err == nil && free < m.o.Room {
			m.leaveSeat(free)
			reserved = 0
		}
	}
}

// reserve keeps blocks for what the database grows by, so that it can always
// write what it has begun. A file system that cannot do so is left alone.
func (m *Member) reserve(had int64) int64 {
	path := filepath.Join(m.files.path(etcdDir), "member", "snap", "db")
	info, err := os.Stat(path)
	if err != nil || info.Size()+ahead/2 < had {
		return had
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return had
	}
	defer f.Close()
	if unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, info.Size()+ahead) != nil {
		return had
	}
	return info.Size() + ahead
}

func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil //nolint:gosec // no disk has so many
}

// leaveSeat stops the store until there is room again.
func (m *Member) leaveSeat(free int64) {
	again := roomAgain * m.o.Room
	m.mu.Lock()
	m.full = problem.New(problem.Unavailable, "fleet-disk-full", fmt.Sprintf("This node's disk is full (%d MB are free): it takes no part in the fleet until %d MB are. It cannot write to its disk; the other members go on without it.", free>>20, again>>20)).
		WithMend("Make room on the disk that holds " + m.files.dir + ": the node comes back by itself.")
	m.mu.Unlock()
	m.log.Error("the disk is full: this node takes no part in the fleet until there is room", "free_bytes", free, "needs_bytes", again)
	m.handOver()
	m.resignAll(m.life)
	m.seat.Load().end()
	m.close()
	for m.pause(roomEvery) {
		if free, err := freeBytes(m.files.dir); err != nil || free < again {
			continue
		}
		err := m.sitAgain()
		if err == nil {
			break
		}
		m.log.Warn("there is room on the disk again, and the fleet's store does not start yet", "error", err)
		m.pause(5 * time.Second)
	}
}

// sitAgain starts the store where it was left.
func (m *Member) sitAgain() error {
	e, err := m.startEtcd(m.life)
	if err != nil {
		return m.startFailed(err)
	}
	m.take(e)
	m.mu.Lock()
	m.full = nil
	m.mu.Unlock()
	m.log.Info("there is room on the disk again: this node takes part in the fleet")
	m.running.Go(m.awaitEnd)
	return nil
}

// handOver gives the lead of the store to another member, if this one has it.
func (m *Member) handOver() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.life), 2*time.Second)
	defer cancel()
	s := m.etcd().Server
	if s.Leader() != s.MemberID() {
		return
	}
	for _, x := range s.Cluster().Members() {
		if x.ID != s.MemberID() && !x.IsLearner && s.MoveLeader(ctx, uint64(s.MemberID()), uint64(x.ID)) == nil {
			return
		}
	}
}
