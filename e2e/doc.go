// Package e2e knows how a whole node behaves: its tests start the daemon with
// a real PostgreSQL, put simulated vendors behind it, talk to it as clients
// do, and read back what it recorded over its local socket.
package e2e
