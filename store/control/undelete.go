package control

import (
	"fmt"
	"net/http"
	"strconv"

	"wheelhouse/store"
)

// mostDeleted is how many versions one call lists at most.
const mostDeleted = 10_000

// deleted lists what can be brought back.
func (a *api) deleted(r *http.Request) (any, error) {
	limit := 1000
	if v := r.FormValue("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > mostDeleted {
			return nil, badf("limit is %q: want a number from 1 to %d", v, mostDeleted)
		}
		limit = n
	}
	bucket := r.FormValue("bucket")
	list, err := a.cat.Deleted(r.Context(), bucket, r.FormValue("prefix"), limit)
	if err != nil {
		return nil, err
	}
	answer := make([]store.DeletedStatus, len(list))
	for i := range list {
		v := &list[i]
		answer[i] = store.DeletedStatus{
			Bucket: bucket, Name: v.Name, Version: v.ID, Size: v.Size, ETag: fmt.Sprintf("%x", v.ETag), Created: v.Created.UTC(),
			Deleted: v.Deleted.UTC(), Until: v.Until.UTC(),
		}
	}
	return answer, nil
}

// undelete brings a version or a bucket back.
func (a *api) undelete(r *http.Request) (any, error) {
	var in store.UndeleteRequest
	if err := input(r, &in); err != nil {
		return nil, err
	}
	if in.Bucket == "" {
		return nil, badf("bucket: it is not said which")
	}
	if in.Name == "" {
		if in.Version != 0 || in.Replace {
			return nil, badf("version and replace are for objects: name one")
		}
		_, err := a.cat.UndeleteBucket(r.Context(), in.Bucket)
		return nil, err
	}
	_, err := a.cat.Undelete(r.Context(), in.Bucket, in.Name, in.Version, in.Replace)
	return nil, err
}
