package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestGet(t *testing.T) {
	released := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from ", r.UserAgent()) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/file", http.StatusFound) })
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "half")
	})
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-released:
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	defer close(released)
	safe := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, server.URL+"/file", http.StatusFound)
	}))
	defer safe.Close()

	for _, c := range []struct{ address, want, err string }{
		{server.URL + "/file", "hello from kairos-config/", ""},
		{server.URL + "/moved", "hello from ", ""},
		{server.URL + "/none", "", "/none: status 404 Not Found"},
		{server.URL + "/round", "", "more than 5 redirects"},
		{server.URL + "/endless", "", "more than 1000 bytes"},
		{server.URL + "/cut", "", "unexpected EOF"},
		{"http://127.0.0.1:1/x", "", "get http://127.0.0.1:1/x: dial tcp 127.0.0.1:1: connect: connection refused"},
		{"http://u:hunter2@127.0.0.1:1/x?token=hunter2", "", "get http://127.0.0.1:1/x: dial"},
		{"file:///etc/passwd", "", "not the address of a file"},
		{"http://", "", "not the address of a file"},
		{"http://a b/", "", "not the address of a file"},
	} {
		var b bytes.Buffer
		err := Client{}.Get(t.Context(), c.address, &b, 1000)
		switch {
		case c.err == "" && (err != nil || !strings.HasPrefix(b.String(), c.want)):
			t.Errorf("%s: got %q, %v", c.address, b.String(), err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: got %v, want %s", c.address, err, c.err)
		}
	}
	var b bytes.Buffer
	if err := (Client{Transport: safe.Client().Transport}).Get(t.Context(), safe.URL, &b, 1000); err == nil || !strings.Contains(err.Error(), "refused to follow a redirect from https to http://") {
		t.Errorf("got %v", err)
	}
	if err := (Client{}).Get(t.Context(), safe.URL, &b, 1000); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody knows was taken: %v", err)
	}
	var status *Error
	if err := (Client{}).Get(t.Context(), server.URL+"/none", &b, 1000); !errors.As(err, &status) || status.Status != 404 || status.Passing() {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Client{}).Get(ctx, server.URL+"/silent", &b, 1000); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
