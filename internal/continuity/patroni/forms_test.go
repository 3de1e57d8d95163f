package patroni_test

import (
	"encoding/pem"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func hex(id clientv3.LeaseID) string { return strconv.FormatInt(int64(id), 16) }

func dec(id clientv3.LeaseID) string { return strconv.FormatInt(int64(id), 10) }
