//go:build !linux && !darwin

package probe

import "errors"

func spaceAt(string) (space, error) { return space{}, errors.ErrUnsupported }
