//go:build !linux

package scratch

func yieldProcessor() {}
