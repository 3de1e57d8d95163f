//go:build !linux

package engine

import "syscall"

func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: as}
}

func memoryBacked(string) (bool, error) { return false, nil }
