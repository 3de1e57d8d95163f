package scratch

import "context"

// Program runs a program of the copy's server.
func (s *Server) Program(ctx context.Context, name string, args ...string) (string, error) {
	return s.cluster.Program(ctx, name, append(args, "-D", s.cluster.DataDir())...)
}
