// Synchronizes a tag by the SWR SDK for Node.js and prints what the SDK reads back, as one JSON document.
"use strict";

const { BasicCredentials } = require("@huaweicloud/huaweicloud-sdk-core");
const { Region } = require("@huaweicloud/huaweicloud-sdk-core/region/region");
const { ServiceResponseException } = require("@huaweicloud/huaweicloud-sdk-core/exception/ServiceResponseException");
const swr = require("@huaweicloud/huaweicloud-sdk-swr/v2/public-api");

async function main([namespace, repository, tag, targetNamespace, targetRegion]) {
  const { CLOUD_SDK_AK: key, CLOUD_SDK_SK: secret } = process.env;
  const client = connect(key, secret);

  const synchronize = (one, repository, tag) => {
    const body = new swr.CreateManualImageSyncRepoRequestBody()
      .withImageTag([tag])
      .withOverride(true)
      .withRemoteNamespace(targetNamespace)
      .withRemoteRegionId(targetRegion);
    const request = new swr.CreateManualImageSyncRepoRequest()
      .withNamespace(namespace)
      .withRepository(repository)
      .withBody(body);
    return one.createManualImageSyncRepo(request);
  };
  const inRepository = (request) => request.withNamespace(namespace).withRepository(repository);

  const synchronized = await synchronize(client, repository, tag);
  const absent = await synchronize(client, repository, "absent");
  const repositories = await client.listReposDetails(
    new swr.ListReposDetailsRequest().withNamespace(namespace).withName(repository.split("$")[0]),
  );
  const tags = await client.listRepositoryTags(inRepository(new swr.ListRepositoryTagsRequest()));
  const page = "limit::10|offset::0|order::asc";
  const jobs = await client.showSyncJob(inRepository(new swr.ShowSyncJobRequest()).withFilter(page));
  const document = {
    // Against its own declarations this SDK answers an array as itself, with the header's value as its property.
    synchronized,
    absent,
    namespaces: (await client.listNamespaces(new swr.ListNamespacesRequest())).namespaces,
    namespace: await client.showNamespace(new swr.ShowNamespaceRequest().withNamespace(namespace)),
    repositories,
    repository: await client.showRepository(inRepository(new swr.ShowRepositoryRequest())),
    tags,
    jobs,
    login: await client.createSecret(new swr.CreateSecretRequest().withProjectname("cn-north-4")),
    ranges: [repositories, tags, jobs].map((list) => list["Content-Range"]),
    "no repository": await refusal(synchronize(client, "nowhere", tag)),
    "wrong secret": await refusal(synchronize(connect(key, `${secret}x`), repository, tag)),
  };
  console.log(JSON.stringify(document));
}

function connect(key, secret) {
  // This SDK reads no addresses from the environment, so the sample does; the names are those of the other SDKs.
  const endpoint = process.env.HUAWEICLOUD_SDK_REGION_SWR_CN_NORTH_4;
  const region = endpoint ? new Region("cn-north-4", endpoint) : swr.SwrRegion.valueOf("cn-north-4");
  const credentials = new BasicCredentials()
    .withAk(key)
    .withSk(secret)
    .withIamEndpoint(process.env.HUAWEICLOUD_SDK_IAM_ENDPOINT);
  return swr.SwrClient.newBuilder().withCredential(credentials).withRegion(region).build();
}

async function refusal(call) {
  try {
    await call;
  } catch (told) {
    if (!(told instanceof ServiceResponseException)) throw told;
    return { status: told.httpStatusCode, code: told.errorCode, message: told.errorMsg, request: told.requestId };
  }
  throw new Error("nothing was refused");
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
