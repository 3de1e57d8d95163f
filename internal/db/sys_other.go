//go:build !linux

package db

import (
	"syscall"
	"time"
)

// Only Linux can tie the life of a child to its parent's. Elsewhere a server
// that outlives a killed Foundry is found by its postmaster.pid at the next start.
func (a account) attributes() *syscall.SysProcAttr {
	at := &syscall.SysProcAttr{Setpgid: true}
	if a.switched {
		at.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return at
}

func serverProcesses(string) []int { return nil }

func departedServers(string) []int { return nil }

var begun = time.Now()

// sinceBoot is time that no change of the clock moves.
func sinceBoot() int64 { return int64(time.Since(begun)) + 1 }
