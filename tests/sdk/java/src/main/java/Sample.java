import com.huaweicloud.sdk.core.auth.BasicCredentials;
import com.huaweicloud.sdk.core.auth.ICredential;
import com.huaweicloud.sdk.core.exception.ServiceResponseException;
import com.huaweicloud.sdk.core.utils.JsonUtils;
import com.huaweicloud.sdk.swr.v2.SwrClient;
import com.huaweicloud.sdk.swr.v2.model.CreateManualImageSyncRepoRequest;
import com.huaweicloud.sdk.swr.v2.model.CreateManualImageSyncRepoRequestBody;
import com.huaweicloud.sdk.swr.v2.model.CreateSecretRequest;
import com.huaweicloud.sdk.swr.v2.model.ListNamespacesRequest;
import com.huaweicloud.sdk.swr.v2.model.ListReposDetailsRequest;
import com.huaweicloud.sdk.swr.v2.model.ListReposDetailsResponse;
import com.huaweicloud.sdk.swr.v2.model.ListRepositoryTagsRequest;
import com.huaweicloud.sdk.swr.v2.model.ListRepositoryTagsResponse;
import com.huaweicloud.sdk.swr.v2.model.ShowNamespaceRequest;
import com.huaweicloud.sdk.swr.v2.model.ShowRepositoryRequest;
import com.huaweicloud.sdk.swr.v2.model.ShowSyncJobRequest;
import com.huaweicloud.sdk.swr.v2.model.ShowSyncJobResponse;
import com.huaweicloud.sdk.swr.v2.region.SwrRegion;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Synchronizes a tag by the SWR SDK for Java and prints what the SDK reads back, as one JSON document. */
public final class Sample {
    private final String namespace;
    private final String targetNamespace;
    private final String targetRegion;

    private Sample(String namespace, String targetNamespace, String targetRegion) {
        this.namespace = namespace;
        this.targetNamespace = targetNamespace;
        this.targetRegion = targetRegion;
    }

    public static void main(String[] arguments) {
        String namespace = arguments[0];
        String repository = arguments[1];
        String tag = arguments[2];
        Sample sample = new Sample(namespace, arguments[3], arguments[4]);
        String key = System.getenv("CLOUD_SDK_AK");
        String secret = System.getenv("CLOUD_SDK_SK");
        SwrClient swr = connect(key, secret);

        Map<String, Object> document = new LinkedHashMap<>();
        document.put("synchronized", sample.synchronize(swr, repository, tag));
        document.put("absent", sample.synchronize(swr, repository, "absent"));
        document.put("namespaces", swr.listNamespaces(new ListNamespacesRequest()).getNamespaces());
        document.put("namespace", swr.showNamespace(new ShowNamespaceRequest().withNamespace(namespace)));
        ListReposDetailsResponse repositories = swr.listReposDetails(
            new ListReposDetailsRequest().withNamespace(namespace).withName(repository.split("\\$")[0]));
        document.put("repositories", repositories.getBody());
        document.put("repository", swr.showRepository(
            new ShowRepositoryRequest().withNamespace(namespace).withRepository(repository)));
        ListRepositoryTagsResponse tags = swr.listRepositoryTags(
            new ListRepositoryTagsRequest().withNamespace(namespace).withRepository(repository));
        document.put("tags", tags.getBody());
        ShowSyncJobResponse jobs = swr.showSyncJob(
            new ShowSyncJobRequest().withNamespace(namespace).withRepository(repository)
                .withFilter("limit::10|offset::0|order::asc"));
        document.put("jobs", jobs.getBody());
        document.put("login", swr.createSecret(new CreateSecretRequest().withProjectname("cn-north-4")));
        document.put("ranges", Arrays.asList(
            repositories.getContentRange(), tags.getContentRange(), jobs.getContentRange()));
        document.put("no repository", refusal(() -> sample.synchronize(swr, "nowhere", tag)));
        document.put("wrong secret", refusal(
            () -> sample.synchronize(connect(key, secret + "x"), repository, tag)));
        System.out.println(JsonUtils.toJSON(document));
    }

    private static SwrClient connect(String key, String secret) {
        ICredential credentials = new BasicCredentials().withAk(key).withSk(secret);
        return SwrClient.newBuilder().withCredential(credentials).withRegion(SwrRegion.valueOf("cn-north-4")).build();
    }

    private List<String> synchronize(SwrClient swr, String repository, String tag) {
        CreateManualImageSyncRepoRequestBody body = new CreateManualImageSyncRepoRequestBody()
            .withImageTag(List.of(tag))
            .withOverride(true)
            .withRemoteNamespace(targetNamespace)
            .withRemoteRegionId(targetRegion);
        CreateManualImageSyncRepoRequest request = new CreateManualImageSyncRepoRequest()
            .withNamespace(namespace)
            .withRepository(repository)
            .withBody(body);
        return swr.createManualImageSyncRepo(request).getBody();
    }

    private static Map<String, Object> refusal(Runnable call) {
        try {
            call.run();
        } catch (ServiceResponseException told) {
            return Map.of(
                "status", told.getHttpStatusCode(),
                "code", told.getErrorCode(),
                "message", told.getErrorMsg(),
                "request", told.getRequestId());
        }
        throw new AssertionError("nothing was refused");
    }
}
