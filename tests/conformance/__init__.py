"""What a client of TensorFlow Serving may rely on, checked by wire.

The suite runs against the embedded server, and against a real TensorFlow Serving where TFS_ADDRESS names one:

    python -m tests.conformance.models /tmp/conformance
    tensorflow_model_server --port=8500 --rest_api_port=8501 --model_config_file=/tmp/conformance/models.config \\
        --monitoring_config_file=/tmp/conformance/monitoring.config --max_num_load_retries=0 \\
        --allow_version_labels_for_unavailable_models
    TFS_ADDRESS=127.0.0.1:8500 TFS_REST_ADDRESS=127.0.0.1:8501 TFS_MODELS=/tmp/conformance pytest tests/conformance
"""
