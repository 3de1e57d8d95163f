//go:build !linux

package target

func networkFileSystem(string) (bool, error) { return false, nil }
