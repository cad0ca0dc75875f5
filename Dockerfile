FROM python:3.12-slim
WORKDIR /foir
COPY . .
RUN pip install --no-cache-dir . && useradd --create-home foir
USER foir
WORKDIR /home/foir
ENV GRADIO_SERVER_NAME=0.0.0.0
EXPOSE 7860
CMD ["foir", "serve"]
