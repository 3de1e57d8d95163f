//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// nginxProgram finds nginx, also where the path of ordinary users does not look.
func nginxProgram() (string, error) {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", problem.New(problem.NotFound, "nginx-missing", "The reference, nginx, is not installed.").
		WithMend("Run scripts/setup bench, or: apt-get install -y nginx-light")
}

// nginxConfig makes nginx a plain reverse proxy: as many workers as the
// machine has processors, kept-alive connections to the upstream, no access
// log, streams passed on as they come.
const nginxConfig = `worker_processes auto;
daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log error;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path %[1]s/nginx-1; proxy_temp_path %[1]s/nginx-2; fastcgi_temp_path %[1]s/nginx-3;
  uwsgi_temp_path %[1]s/nginx-4; scgi_temp_path %[1]s/nginx-5;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffering off;
  ssl_protocols TLSv1.3;
  ssl_certificate %[1]s/tls.crt;
  ssl_certificate_key %[1]s/tls.key;
%[2]s}
`

const nginxServer = `  upstream %[1]s { server %[2]s; keepalive 256; keepalive_requests 100000000; }
  server { listen %[3]s; listen %[4]s ssl; location / { proxy_pass http://%[1]s; } }
`

func writeNginxConfig(dir string, plain, secure, upstreams each) (string, error) {
	var servers strings.Builder
	for i, name := range upstreamNames {
		fmt.Fprintf(&servers, nginxServer, name, upstreams[i], plain[i], secure[i])
	}
	path := filepath.Join(dir, "nginx.conf")
	return path, os.WriteFile(path, fmt.Appendf(nil, nginxConfig, dir, servers.String()), 0o644)
}
