package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client speaks to a dispatcher. The zero value is not usable; see [NewClient]. Safe for concurrent use.
type Client struct {
	base   string
	key    AccessKey
	client *http.Client
}

// ClientOptions tune a Client.
type ClientOptions struct {
	Key  AccessKey    // what requests are authenticated with; the zero key asks anonymously
	HTTP *http.Client // default: one with a pool of its own and no overall time limit
}

// NewClient makes a client of the dispatcher at base, such as http://127.0.0.1:8080.
func NewClient(base string, o ClientOptions) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("store: server address %q: want http://HOST:PORT", base)
	}
	if o.HTTP == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost, t.MaxIdleConns, t.DisableCompression = 256, 256, true
		t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
		o.HTTP = &http.Client{Transport: t}
	}
	return &Client{base: strings.TrimRight(base, "/"), key: o.Key, client: o.HTTP}, nil
}

// ParseKey reads ID:SECRET.
func ParseKey(s string) (AccessKey, error) {
	id, secret, ok := strings.Cut(strings.TrimSpace(s), ":")
	if !ok || id == "" || secret == "" {
		return AccessKey{}, errors.New("store: access key: want ID:SECRET")
	}
	return AccessKey{ID: id, Secret: secret}, nil
}

// PutOptions say more of an object than its bytes.
type PutOptions struct {
	ContentType  string // "": by the name's suffix
	CacheControl string
	Meta         []Field
	IfAbsent     bool // create only: ErrPrecondition when the name is taken
	Durable      int  // entities that must be durable before Put returns; 0: as the class says
}

// ObjectInfo is what the server says of an object.
type ObjectInfo struct {
	Name        string    `json:"name"`
	Path        string    `json:"path,omitempty"` // percent-encoded, where Name is not UTF-8
	Size        int64     `json:"size"`
	ETag        string    `json:"etag"` // MD5 in hex
	ContentType string    `json:"content_type"`
	Created     time.Time `json:"created"`
}

// Put stores an object and returns its ETag. size is -1 where it is not known beforehand. When it returns nil the object
// is as durable as was asked for.
func (c *Client) Put(ctx context.Context, bucket, name string, body io.Reader, size int64, o PutOptions) (etag string, err error) {
	req, err := c.request(ctx, http.MethodPut, ObjectPath(bucket, name), body)
	if err != nil {
		return "", err
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	set := func(name, value string) {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	set("Content-Type", o.ContentType)
	set("Cache-Control", o.CacheControl)
	for _, f := range o.Meta {
		req.Header.Add("X-Object-Meta-"+f.Name, f.Value)
	}
	if o.IfAbsent {
		req.Header.Set("If-None-Match", "*")
	}
	if o.Durable > 0 {
		req.Header.Set("X-STF-Consistency", strconv.Itoa(o.Durable))
	}
	resp, err := c.do(req)
	if err != nil {
		return "", err
	}
	finish(resp)
	return strings.Trim(resp.Header.Get("ETag"), `"`), nil
}

// Get opens an object for reading, from byte off on. The caller closes it. ErrNoObject, ErrNoBucket.
func (c *Client) Get(ctx context.Context, bucket, name string, off int64) (io.ReadCloser, ObjectInfo, error) {
	req, err := c.request(ctx, http.MethodGet, ObjectPath(bucket, name), nil)
	if err != nil {
		return nil, ObjectInfo{}, err
	}
	if off > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(off, 10)+"-")
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, ObjectInfo{}, err
	}
	if off > 0 && resp.StatusCode != http.StatusPartialContent {
		_ = resp.Body.Close()
		return nil, ObjectInfo{}, fmt.Errorf("store: GET %s: the server ignored the range", ObjectPath(bucket, name))
	}
	return resp.Body, infoOf(name, resp), nil
}

// Stat describes an object. ErrNoObject, ErrNoBucket.
func (c *Client) Stat(ctx context.Context, bucket, name string) (ObjectInfo, error) {
	req, err := c.request(ctx, http.MethodHead, ObjectPath(bucket, name), nil)
	if err != nil {
		return ObjectInfo{}, err
	}
	resp, err := c.do(req)
	if err != nil {
		return ObjectInfo{}, err
	}
	finish(resp)
	return infoOf(name, resp), nil
}

func infoOf(name string, resp *http.Response) ObjectInfo {
	created, _ := http.ParseTime(resp.Header.Get("Last-Modified")) // zero where the server sent none
	return ObjectInfo{
		Name: name, Size: resp.ContentLength, ETag: strings.Trim(resp.Header.Get("ETag"), `"`),
		ContentType: resp.Header.Get("Content-Type"), Created: created,
	}
}

// Delete removes an object. ErrNoObject, ErrNoBucket.
func (c *Client) Delete(ctx context.Context, bucket, name string) error {
	return c.simple(ctx, http.MethodDelete, ObjectPath(bucket, name), nil)
}

// Move gives an object, or with empty names a bucket, another name. ErrExists.
func (c *Client) Move(ctx context.Context, bucket, name, toBucket, toName string) error {
	return c.simple(ctx, "MOVE", ObjectPath(bucket, name), http.Header{"X-Stf-Move-Destination": {ObjectPath(toBucket, toName)}})
}

// BucketAttributes are what can be said of a bucket. "" leaves an attribute as it is, or as buckets begin.
type BucketAttributes struct {
	Access string // private or public-read
	Class  string
	Owner  string // id of an account, 0 for nobody; only administrators may say that
}

// CreateBucket makes a bucket; one that is there already is no error.
func (c *Client) CreateBucket(ctx context.Context, name string, a BucketAttributes) error {
	return c.simple(ctx, http.MethodPut, ObjectPath(name, ""), a.header())
}

// UpdateBucket changes what is said of a bucket.
func (c *Client) UpdateBucket(ctx context.Context, name string, a BucketAttributes) error {
	return c.simple(ctx, http.MethodPost, ObjectPath(name, ""), a.header())
}

func (a BucketAttributes) header() http.Header {
	h := http.Header{}
	for name, value := range map[string]string{"X-Bucket-Access": a.Access, "X-Bucket-Class": a.Class, "X-Bucket-Owner": a.Owner} {
		if value != "" {
			h.Set(name, value)
		}
	}
	return h
}

// DeleteBucket removes a bucket, with its objects if recursive; else ErrNotEmpty where it has any.
func (c *Client) DeleteBucket(ctx context.Context, name string, recursive bool) error {
	h := http.Header{}
	if recursive {
		h.Set("X-Stf-Recursive-Delete", "true")
	}
	return c.simple(ctx, http.MethodDelete, ObjectPath(name, ""), h)
}

// Listing is one page of a bucket.
type Listing struct {
	Objects   []ObjectInfo `json:"objects"`
	Prefixes  []string     `json:"prefixes"`
	Truncated bool         `json:"truncated"`
	Next      string       `json:"next"` // what [Client.List] takes to go on; "" at the end
}

// List returns a page of a bucket's objects in byte order of their names. next is "" at first, then Listing.Next; limit 0
// leaves the page's size to the server.
func (c *Client) List(ctx context.Context, bucket, prefix, delimiter, next string, limit int) (Listing, error) {
	query := next
	if query == "" {
		v := url.Values{"prefix": {prefix}, "delimiter": {delimiter}}
		if limit > 0 {
			v.Set("limit", strconv.Itoa(limit))
		}
		query = "?list&" + v.Encode()
	}
	var l Listing
	err := c.Call(ctx, http.MethodGet, ObjectPath(bucket, "")+query, nil, &l)
	return l, err
}

// BucketInfo is a bucket as the server shows it.
type BucketInfo struct {
	Name         string    `json:"name"`
	Access       string    `json:"access"`
	Class        string    `json:"class"`
	Owner        string    `json:"owner,omitempty"` // id of an account, "": nobody
	CacheControl string    `json:"cache_control,omitempty"`
	Created      time.Time `json:"created"`
}

// Buckets returns a page of the buckets that the key may read, with names > after, and the after of the next page, "" at
// the end.
func (c *Client) Buckets(ctx context.Context, after string) (list []BucketInfo, next string, err error) {
	var page struct {
		Buckets   []BucketInfo `json:"buckets"`
		NextAfter string       `json:"next_after"`
	}
	err = c.Call(ctx, http.MethodGet, "/?list&after="+url.QueryEscape(after), nil, &page)
	return page.Buckets, page.NextAfter, err
}

// SignedURL is a URL that lets whoever has it make one kind of request, GET or PUT, for one object until expires.
func (c *Client) SignedURL(method, bucket, name string, expires time.Time) string {
	path := ObjectPath(bucket, name)
	return c.base + path + "?" + SignPath(c.key, method, path, expires)
}

// Call makes a request with JSON both ways: the operator's API (store/control). in and out may be nil.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer finish(resp)
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("store: answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) simple(ctx context.Context, method, path string, h http.Header) error {
	req, err := c.request(ctx, method, path, nil)
	if err != nil {
		return err
	}
	for name, values := range h {
		req.Header[name] = values
	}
	resp, err := c.do(req)
	if err == nil {
		finish(resp)
	}
	return err
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	req.Header.Set("Accept", "application/json, */*")
	if c.key.ID != "" {
		req.SetBasicAuth(c.key.ID, c.key.Secret)
	}
	return req, nil
}

// do makes a request; an answer that is not a success becomes an error.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer finish(resp)
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what could be read of it is enough
	e := APIError{}
	if json.Unmarshal(text, &e) != nil || e.Reason == "" {
		e.Reason = cmp.Or(strings.TrimSpace(string(text)), http.StatusText(resp.StatusCode))
	}
	e.Status = resp.StatusCode
	return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, &e)
}

// Is makes an [APIError] match the sentinel that the server's status stands for.
func (e *APIError) Is(target error) bool {
	switch e.Status {
	case http.StatusNotFound:
		return target == ErrNoObject && !strings.Contains(e.Reason, "bucket") || target == ErrNoBucket && strings.Contains(e.Reason, "bucket")
	case http.StatusPreconditionFailed:
		return target == ErrPrecondition
	case http.StatusConflict:
		return target == ErrExists
	case http.StatusForbidden:
		return target == ErrNotEmpty && strings.Contains(e.Reason, "not empty")
	}
	return false
}

// finish reads the rest of an answer, so that its connection can be used again.
func finish(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
}
