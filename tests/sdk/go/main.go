// Synchronizes a tag by the SWR SDK for Go and prints what the SDK reads back, as one JSON document.
package main

import (
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/auth/basic"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/sdkerr"
	swr "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/swr/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/swr/v2/model"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/swr/v2/region"
)

type refusal struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Request string `json:"request"`
}

func main() {
	namespace, repository, tag, targetNamespace, targetRegion := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	key, secret := os.Getenv("CLOUD_SDK_AK"), os.Getenv("CLOUD_SDK_SK")
	client := connect(key, secret)

	synchronize := func(client *swr.SwrClient, repository, tag string) (*[]string, error) {
		override := true
		answer, err := client.CreateManualImageSyncRepo(&model.CreateManualImageSyncRepoRequest{
			Namespace:  namespace,
			Repository: repository,
			Body: &model.CreateManualImageSyncRepoRequestBody{
				ImageTag:        []string{tag},
				Override:        &override,
				RemoteNamespace: targetNamespace,
				RemoteRegionId:  targetRegion,
			},
		})
		if err != nil {
			return nil, err
		}
		return answer.Body, nil
	}

	synchronized := must(synchronize(client, repository, tag))
	absent := must(synchronize(client, repository, "absent"))
	name, _, _ := strings.Cut(repository, "$")
	repositories := must(client.ListReposDetails(&model.ListReposDetailsRequest{Namespace: &namespace, Name: &name}))
	tags := must(client.ListRepositoryTags(&model.ListRepositoryTagsRequest{Namespace: namespace, Repository: repository}))
	page := "limit::10|offset::0|order::asc"
	jobs := must(client.ShowSyncJob(
		&model.ShowSyncJobRequest{Namespace: namespace, Repository: repository, Filter: page}))
	project := "cn-north-4"
	_, noRepository := synchronize(client, "nowhere", tag)
	_, wrongSecret := synchronize(connect(key, secret+"x"), repository, tag)

	document := map[string]any{
		"synchronized":  synchronized,
		"absent":        absent,
		"regions":       must(client.ListSyncRegions(&model.ListSyncRegionsRequest{})).Body,
		"namespaces":    must(client.ListNamespaces(&model.ListNamespacesRequest{})).Namespaces,
		"namespace":     must(client.ShowNamespace(&model.ShowNamespaceRequest{Namespace: namespace})),
		"repositories":  repositories.Body,
		"repository":    must(client.ShowRepository(&model.ShowRepositoryRequest{Namespace: namespace, Repository: repository})),
		"tags":          tags.Body,
		"tag":           must(client.ShowRepoTag(&model.ShowRepoTagRequest{Namespace: namespace, Repository: repository, Tag: tag})),
		"jobs":          jobs.Body,
		"login":         must(client.CreateSecret(&model.CreateSecretRequest{Projectname: &project})),
		"ranges":        []*string{repositories.ContentRange, tags.ContentRange, jobs.ContentRange},
		"no repository": refused(noRepository),
		"wrong secret":  refused(wrongSecret),
	}
	if err := json.NewEncoder(os.Stdout).Encode(document); err != nil {
		panic(err)
	}
}

func connect(key, secret string) *swr.SwrClient {
	credentials := basic.NewCredentialsBuilder().WithAk(key).WithSk(secret)
	// From the environment this SDK takes IAM's address for https, whatever it says.
	if iam := os.Getenv("HUAWEICLOUD_SDK_IAM_ENDPOINT"); strings.HasPrefix(iam, "http://") {
		credentials = credentials.WithIamEndpointOverride(iam)
	}
	return swr.NewSwrClient(
		swr.SwrClientBuilder().WithRegion(region.ValueOf("cn-north-4")).WithCredential(credentials.Build()).Build())
}

func refused(err error) refusal {
	var told *sdkerr.ServiceResponseError
	if !errors.As(err, &told) {
		panic(err)
	}
	return refusal{told.StatusCode, told.ErrorCode, told.ErrorMessage, told.RequestId}
}

func must[Answer any](answer Answer, err error) Answer {
	if err != nil {
		panic(err)
	}
	return answer
}
