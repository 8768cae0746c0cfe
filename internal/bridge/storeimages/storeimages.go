// Package storeimages lets the store serve photos in other sizes: it makes them in this process, or has them made by the
// workers of a Gearman function, which anybody else may call too.
package storeimages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strings"

	"wheelhouse/gearman"
	"wheelhouse/internal/imaging"
	"wheelhouse/store/dispatcher"
)

// FuncName is the Gearman function that makes an image smaller.
//
// Its workload is what is wanted, as imaging.Spec writes it (w200-h0-inside-auto-q82), a newline, and the image. Its
// result is the content type, a newline, and the new image. What is the image's own fault is an exception that begins
// with "unprocessable: "; trying it again is of no use.
const FuncName = "wheelhouse.image"

const unprocessable = "unprocessable: "

// variants reads queries; it is what both derivers have in common.
type variants struct{}

// Variant is as in [dispatcher.Deriver]. Objects that are no images, and those that need no other sizes, are always meant
// themselves.
func (variants) Variant(query url.Values, contentType string) (variant string, asked bool, err error) {
	contentType, _, _ = strings.Cut(contentType, ";")
	switch contentType {
	case "image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff":
	default:
		return "", false, nil
	}
	s, asked, err := imaging.ParseQuery(query)
	return s.String(), asked, err
}

// transform does the work, wherever.
func transform(variant string, original []byte, limits imaging.Limits) ([]byte, string, error) {
	s, err := imaging.Parse(variant)
	if err != nil {
		return nil, "", err
	}
	return imaging.Transform(original, s, limits)
}

// isFault reports whether an error is the image's own fault.
func isFault(err error) bool {
	return errors.Is(err, imaging.ErrNotImage) || errors.Is(err, imaging.ErrTooLarge)
}

// Local makes images in this process.
type Local struct {
	variants
	limits imaging.Limits
	slots  chan struct{}
}

var _ dispatcher.Deriver = (*Local)(nil)

// NewLocal returns a deriver that makes n images at a time; 0: as many as there are processors, less one, but at least one.
func NewLocal(n int, limits imaging.Limits) *Local {
	if n <= 0 {
		n = max(1, runtime.GOMAXPROCS(0)-1)
	}
	return &Local{limits: limits, slots: make(chan struct{}, n)}
}

// Derive is as in [dispatcher.Deriver]. It waits for its turn while ctx lasts.
func (l *Local) Derive(ctx context.Context, _, variant string, original []byte) ([]byte, string, error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, "", fmt.Errorf("%w: %w", dispatcher.ErrDeriverBusy, ctx.Err())
	}
	defer func() { <-l.slots }()
	data, contentType, err := transform(variant, original, l.limits)
	if isFault(err) {
		err = fmt.Errorf("%w: %w", dispatcher.ErrNotDerivable, err)
	}
	return data, contentType, err
}

// Remote has images made by workers.
type Remote struct {
	variants
	client *gearman.Client
}

var _ dispatcher.Deriver = (*Remote)(nil)

// NewRemote returns a deriver that calls [FuncName]. The client stays the caller's.
func NewRemote(c *gearman.Client) *Remote { return &Remote{client: c} }

// Derive is as in [dispatcher.Deriver]. Equal calls of all dispatchers meet on the job server and are done once.
func (r *Remote) Derive(ctx context.Context, key, variant string, original []byte) ([]byte, string, error) {
	arg := make([]byte, 0, len(variant)+1+len(original))
	arg = append(append(append(arg, variant...), '\n'), original...)
	job := gearman.Job{Func: FuncName, Arg: arg, Priority: gearman.High}
	if len(key) < 64 {
		job.Unique = key
	}
	out, err := r.client.Do(ctx, job)
	if thrown, ok := errors.AsType[*gearman.Exception](err); ok {
		if reason, fault := bytes.CutPrefix(thrown.Data, []byte(unprocessable)); fault {
			return nil, "", fmt.Errorf("%w: %.300s", dispatcher.ErrNotDerivable, reason)
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", dispatcher.ErrDeriverBusy, err)
	}
	contentType, data, ok := bytes.Cut(out, []byte{'\n'})
	if !ok || !bytes.HasPrefix(contentType, []byte("image/")) {
		return nil, "", fmt.Errorf("storeimages: the worker's answer is no image: %.40q", out)
	}
	return data, string(contentType), nil
}

// Func returns the Gearman function.
func Func(limits imaging.Limits) gearman.Func {
	return func(_ context.Context, c *gearman.Call) ([]byte, error) {
		variant, original, ok := bytes.Cut(c.Arg, []byte{'\n'})
		if !ok {
			return nil, &gearman.Exception{Data: []byte(unprocessable + "the workload has no first line with what is wanted")}
		}
		data, contentType, err := transform(string(variant), original, limits)
		if isFault(err) {
			return nil, &gearman.Exception{Data: []byte(unprocessable + err.Error())}
		}
		if err != nil {
			return nil, err
		}
		return append([]byte(contentType+"\n"), data...), nil
	}
}
