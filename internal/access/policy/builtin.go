package policy

import "sync"

// Builtin returns the engine of the built-in policies alone, made once.
var Builtin = sync.OnceValues(func() (*Engine, error) { return Load() })
