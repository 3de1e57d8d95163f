package target

import (
	"net/http"
	"time"
)

// SignExample signs as the published examples do.
func SignExample(r *http.Request) {
	signS3(r, signing{
		key: "AKIAIOSFODNN7EXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", region: "us-east-1", service: "s3",
		at: time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC), body: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	})
}
