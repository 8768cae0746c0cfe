package control

import (
	"crypto/rand"
	"net/http"

	"wheelhouse/store"
)

func (a *api) accounts(r *http.Request) (any, error) {
	accounts, err := a.cat.Accounts(r.Context())
	if err != nil {
		return nil, err
	}
	list := make([]store.AccountStatus, len(accounts))
	for i, acc := range accounts {
		list[i] = store.AccountStatus{ID: acc.ID, Name: acc.Name, Role: acc.Role.String(), Created: acc.Created.UTC()}
	}
	return list, nil
}

func (a *api) addAccount(r *http.Request) (any, error) {
	var in store.AccountStatus
	if err := input(r, &in); err != nil {
		return nil, err
	}
	role, err := store.ParseRole(in.Role)
	if err != nil {
		return nil, badf("%v", err)
	}
	if in.Name == "" || len(in.Name) > store.MaxBucketName {
		return nil, badf("name: want 1 to %d bytes", store.MaxBucketName)
	}
	acc, err := a.cat.CreateAccount(r.Context(), store.Account{Name: in.Name, Role: role})
	if err != nil {
		return nil, err
	}
	return store.AccountStatus{ID: acc.ID, Name: acc.Name, Role: acc.Role.String(), Created: acc.Created.UTC()}, nil
}

func (a *api) removeAccount(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return nil, a.cat.RemoveAccount(r.Context(), store.AccountID(id))
}

func (a *api) keys(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	keys, err := a.cat.Keys(r.Context(), store.AccountID(id))
	if err != nil {
		return nil, err
	}
	list := make([]store.KeyStatus, len(keys))
	for i, k := range keys {
		list[i] = store.KeyStatus{ID: k.ID, Created: k.Created.UTC()} // secrets are shown once, when they are made
	}
	return list, nil
}

func (a *api) addKey(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	k := NewKey(store.AccountID(id))
	if err := a.cat.PutKey(r.Context(), k); err != nil {
		return nil, err
	}
	return store.KeyStatus{ID: k.ID, Secret: k.Secret}, nil
}

// NewKey makes a random access key: an id of 20 letters and digits, a secret of 40 (200 bits).
func NewKey(account store.AccountID) store.AccessKey {
	return store.AccessKey{ID: rand.Text()[:20], Secret: (rand.Text() + rand.Text())[:40], Account: account}
}

func (a *api) removeKey(r *http.Request) (any, error) {
	return nil, a.cat.RemoveKey(r.Context(), r.PathValue("key"))
}

func (a *api) setOwner(r *http.Request) (any, error) {
	var in struct{ Account store.AccountID }
	if err := input(r, &in); err != nil {
		return nil, err
	}
	b, err := a.cat.Bucket(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	b.Owner = in.Account
	return nil, a.cat.UpdateBucket(r.Context(), b)
}
